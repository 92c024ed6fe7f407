"""The cameras of the line: who is on it, and how one comes and goes while frames flow.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from edge.batching.feed import Feed
from edge.batching.ring import SlotRing
from edge.capture import Mailbox, Reader, Watchdog
from edge.capture.device import claim_of
from edge.capture.status import OnStatus
from edge.clock import NS_PER_S, Clock
from edge.config.schema import CameraConfig
from edge.errors import EdgeError
from edge.health.meters import CameraReading
from edge.records import (
    UNRESTRAINED,
    CameraState,
    CameraStatus,
    DropCause,
    Frame,
    Restraints,
)
from edge.reload import changed_keys, needs_new_reader
from edge.station import Post, Station, Voice
from edge.threads import OnFailure

# A camera whose driver holds its thread is left behind: what was accepted must still go out.
CAPTURE_STOP_S = 2.0

MakeReader = Callable[[CameraConfig, Mailbox, OnStatus], Reader]
"""Makes a camera's reader; raises ConfigError if it needs what this machine lacks."""


@dataclass(frozen=True)
class Surroundings:
    """What a roster needs of the line; `on_feeds` gets the shared feeds, and the priority ones
    with the slots reserved for each."""

    make_reader: MakeReader
    make_ring: Callable[[], SlotRing]
    wake: Callable[[], None]
    on_status: OnStatus
    on_feeds: Callable[[Sequence[Feed], Mapping[Feed, SlotRing]], None]
    on_failure: OnFailure


class Roster:
    """Every camera's station, by name; a name that was once on the line keeps its own.

    Belongs to the main loop, but for `count_drop` and `frame_done`.
    """

    def __init__(
        self, cameras: Sequence[CameraConfig], surroundings: Surroundings, clock: Clock
    ) -> None:
        self._surroundings = surroundings
        self._clock = clock
        self._stations: Dict[str, Station] = {}
        self._rings: List[SlotRing] = []
        self._ring_count = 0
        self._order: List[str] = []
        self._cameras = tuple(cameras)
        self._restraints = UNRESTRAINED
        self._watchdog = Watchdog([], surroundings.on_failure, self._hanging_left)
        self._seat(cameras, {camera.name: self._post(camera) for camera in cameras})
        for station in self._stations.values():
            station.is_fed = True

    @property
    def shared_feeds(self) -> List[Feed]:
        """What the shared batches are made of."""
        return [station.feed for station in self._fed if station.ring is None]

    @property
    def reserved(self) -> Dict[Feed, SlotRing]:
        """The priority cameras, and the slots of each."""
        return {station.feed: station.ring for station in self._fed if station.ring is not None}

    @property
    def received_shared(self) -> int:
        """Frames that came in of the cameras in `shared_feeds`, as they are now."""
        return sum(feed.mailbox.received for feed in self.shared_feeds)

    def readings(self) -> Dict[str, Callable[[], CameraReading]]:
        """What each camera that ever was here says of itself."""
        return {name: station.reading for name, station in self._stations.items()}

    def statuses(self) -> List[CameraStatus]:
        """The status of each present camera, in the order of the configuration."""
        return [self._stations[name].status for name in self._order]

    def count_drop(self, camera: str, cause: DropCause) -> None:
        """Counts a frame that was lost behind the batcher; from any thread."""
        self._stations[camera].count_drop(cause)

    def frame_done(self, camera: str) -> None:
        """Counts a frame whose result was told; one call at a time."""
        self._stations[camera].frame_done()

    def show_next(self, camera: str, look: Callable[[Frame], object]) -> None:
        """Shows a present camera's next frame to `look`, as `Mailbox.show_next` does."""
        self._stations[camera].post.mailbox.show_next(look)

    def start(self) -> None:
        """Starts every reader."""
        for station in self._stations.values():
            station.start()

    def change(self, cameras: Sequence[CameraConfig]) -> None:
        """Makes these the cameras; one that stays as it is does not notice.

        Where it raises (ConfigError, EngineError: no memory) nothing has changed. What it begins
        goes on in `look`.
        """
        posts = {
            camera.name: self._post(camera)
            for camera in map(self._restrained, cameras)
            if self._needs_reader(camera)
        }
        self._seat([self._restrained(camera) for camera in cameras], posts)
        self._cameras = tuple(cameras)
        for post in posts.values():
            post.reader.announce()
        self._tell_feeds()

    def restrain(self, restraints: Restraints) -> None:
        """Slows cameras down, pauses some and lets others go on; `change` keeps to it.

        A paused camera is as one that is disabled. Raises as `change`.
        """
        before, self._restraints = self._restraints, restraints
        for name, station in self._stations.items():
            station.post.reader.limit_fps(restraints.fps.get(name))
        if restraints.paused.keys() == before.paused.keys():
            return
        try:
            self.change(self._cameras)
        except EdgeError:
            self._restraints = before
            raise

    def look(self, now_ns: int) -> bool:
        """Looks after the readers, called several times a second; True if the feeds changed."""
        self._watchdog.check(now_ns)
        claimed = {post.claim for station in self._stations.values() for post in station.gone}
        claimed.discard(None)
        has_changed = [station.settle(now_ns, claimed) for station in self._stations.values()]
        if any(has_changed):
            self._tell_feeds()
        return any(has_changed)

    def stop(self, timeout_s: float) -> bool:
        """Stops every reader; False if one is still inside its driver when the time is over."""
        deadline_ns = self._clock.monotonic_ns() + int(min(timeout_s, CAPTURE_STOP_S) * NS_PER_S)
        present = [self._stations[name] for name in self._order]
        for station in present:
            station.post.reader.stop()
        ended = [
            station.join((deadline_ns - self._clock.monotonic_ns()) / NS_PER_S)
            for station in present
        ]
        return all(ended)

    def close(self) -> None:
        """Counts what waits, also of cameras between two lanes, and what still comes as aborted."""
        for station in self._stations.values():
            station.post.mailbox.close()

    @property
    def _fed(self) -> List[Station]:
        return [station for station in self._stations.values() if station.is_fed]

    def _restrained(self, camera: CameraConfig) -> CameraConfig:
        is_paused = camera.name in self._restraints.paused
        return camera.model_copy(update={"enabled": False}) if is_paused else camera

    def _tell_status(self, status: CameraStatus) -> None:
        reason = self._restraints.paused.get(status.camera)
        if reason is not None and status.state is CameraState.DISABLED:
            status = replace(status, reason=reason)
        self._surroundings.on_status(status)

    def _needs_reader(self, camera: CameraConfig) -> bool:
        station = self._stations.get(camera.name)
        return station is None or not station.is_present or needs_new_reader(station.config, camera)

    def _post(self, camera: CameraConfig) -> Post:
        mailbox = Mailbox(camera.name, self._surroundings.wake)
        voice = Voice(self._tell_status)
        reader = self._surroundings.make_reader(camera, mailbox, voice.tell)
        reader.limit_fps(self._restraints.fps.get(camera.name))
        return Post(reader, mailbox, voice, claim_of(camera))

    def _seat(self, cameras: Sequence[CameraConfig], posts: Mapping[str, Post]) -> None:
        now_ns = self._clock.monotonic_ns()
        self._reserve(sum(camera.priority for camera in cameras))
        names = [camera.name for camera in cameras]
        for name in self._order:
            if name not in names:
                self._remove(self._stations[name], now_ns)
        for camera in cameras:
            self._place(camera, posts.get(camera.name), now_ns)
        # Only now: those that gave up their slots may stand behind those that get them.
        for camera in cameras:
            station = self._stations[camera.name]
            if camera.priority and station.ring is None:
                station.ring = self._rings.pop()
        self._order = names
        self._watchdog.readers = [self._stations[name].post.reader for name in names]

    def _reserve(self, needed: int) -> None:
        """Makes the slots that are missing; none is ever freed, as memory on a GPU ends with it."""
        while self._ring_count < needed:
            self._rings.append(self._surroundings.make_ring())
            self._ring_count += 1

    def _place(self, camera: CameraConfig, post: Optional[Post], now_ns: int) -> None:
        station = self._stations.get(camera.name)
        if station is None:
            if post is not None:
                self._stations[camera.name] = Station(camera, post, now_ns)
            return
        if post is not None or changed_keys(station.config, camera):
            station.change(camera, post, now_ns)
        if not camera.priority:
            self._give_back(station)

    def _remove(self, station: Station, now_ns: int) -> None:
        self._surroundings.on_status(station.remove(now_ns, self._clock.unix_ms()))
        self._give_back(station)

    def _give_back(self, station: Station) -> None:
        # Slots that are still out return to it, whoever has it by then.
        if station.ring is not None:
            self._rings.append(station.ring)
            station.ring = None

    def _tell_feeds(self) -> None:
        self._surroundings.on_feeds(self.shared_feeds, self.reserved)

    def _hanging_left(self, now_ns: int) -> Dict[str, int]:
        """Threads that hang in the drivers of cameras that were changed or removed."""
        return {
            name: sum(post.hanging(now_ns) for post in station.gone)
            for name, station in self._stations.items()
        }
