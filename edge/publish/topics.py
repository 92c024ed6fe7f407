"""Where on the broker each message goes; every kind of topic has a fixed depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class Topics:
    """The topic tree of one appliance, so that `+` wildcards and topic parsers work."""

    prefix: str
    device: str

    def availability(self) -> str:
        """Plain `online` or `offline`, retained; the broker itself sets `offline` on a loss."""
        return self._of("availability")

    def state(self) -> str:
        """What the appliance is doing, retained JSON."""
        return self._of("state")

    def info(self) -> str:
        """What the appliance is, retained JSON."""
        return self._of("info")

    def engine(self) -> str:
        """Which engine serves and which is being made, retained JSON."""
        return self._of("engine")

    def health(self) -> str:
        """How the device feels, flat numeric JSON."""
        return self._of("health")

    def governor(self) -> str:
        """What load is shed, and why, retained JSON."""
        return self._of("governor")

    def outbox(self) -> str:
        """What the outbox has lost and whether its disk works, retained JSON."""
        return self._of("outbox")

    def camera_status(self, camera: str) -> str:
        """Whether a camera delivers, retained JSON."""
        return self._of(f"camera/{camera}/status")

    def camera_stats(self, camera: str) -> str:
        """How much a camera delivers, JSON."""
        return self._of(f"camera/{camera}/stats")

    def camera_detections(self, camera: str) -> str:
        """The objects of each frame, JSON."""
        return self._of(f"camera/{camera}/detections")

    def camera_events(self, camera: str) -> str:
        """What begins, changes and ends before a camera, JSON."""
        return self._of(f"camera/{camera}/events")

    def camera_count(self, camera: str, level: str) -> str:
        """How many objects of a class a camera shows, retained bare integer."""
        return self._of(f"camera/{camera}/count/{level}")

    def camera_snapshot(self, camera: str) -> str:
        """A picture, JPEG."""
        return self._of(f"camera/{camera}/snapshot")

    def alert(self, alert_id: str) -> str:
        """Something to look at, retained JSON; empty once it is over."""
        return self._of(f"alert/{alert_id}")

    def camera_prefix(self, camera: str) -> str:
        """What every topic of a camera begins with."""
        return self._of(f"camera/{camera}/")

    def inherited(self) -> Tuple[str, ...]:
        """Filters of what an earlier run may have left with the broker and this one never says."""
        leaves = ("status", "count/+", "+/state", "snapshot")
        return (self._of("alert/+"), *(self._of(f"camera/+/{leaf}") for leaf in leaves))

    def camera_setting(self, camera: str, key: str) -> str:
        """A key of a camera as it is at present, retained bare text."""
        return self._of(f"camera/{camera}/{key}/state")

    def command_result(self) -> str:
        """The answers to requests, JSON."""
        return self._of("cmd/result")

    def requests(self) -> Tuple[str, ...]:
        """Filters of the topics that others ask on: cmd/<verb>, camera/<camera>/<key>/set."""
        return (self._of("cmd/+"), self._of("camera/+/+/set"))

    def leaf(self, topic: str) -> str:
        """What follows <prefix>/<device>/ in one of the topics here."""
        return topic[len(self._of("")) :]

    def _of(self, leaf: str) -> str:
        return f"{self.prefix}/{self.device}/{leaf}"
