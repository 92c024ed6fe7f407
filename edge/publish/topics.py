"""Where on the broker each message goes; every kind of topic has a fixed depth."""

from __future__ import annotations

from dataclasses import dataclass


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

    def camera_status(self, camera: str) -> str:
        """Whether a camera delivers, retained JSON."""
        return self._of(f"camera/{camera}/status")

    def camera_stats(self, camera: str) -> str:
        """How much a camera delivers, JSON."""
        return self._of(f"camera/{camera}/stats")

    def camera_detections(self, camera: str) -> str:
        """The objects of each frame, JSON."""
        return self._of(f"camera/{camera}/detections")

    def _of(self, leaf: str) -> str:
        return f"{self.prefix}/{self.device}/{leaf}"
