"""The cameras of the line: who is on it, and how one comes and goes while frames flow.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from edge.batching.feed import Feed
from edge.batching.ring import SlotRing
from edge.capture import Mailbox, Reader, Watchdog
from edge.capture.status import OnStatus
from edge.capture.watchdog import MAX_HANGING
from edge.clock import NS_PER_S, Clock
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
from edge.health.meters import CameraReading
from edge.records import CameraStatus, DropCause
from edge.reload import changed_keys, needs_new_reader
from edge.station import Post, Station, Voice
from edge.threads import OnFailure

# A camera whose driver holds its thread is left behind: what was accepted must still go out.
CAPTURE_STOP_S = 2.0
# A thread that was told to stop may wait for its next frame, or hang up on a camera.
LEAVING_S = 25.0

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
        self._seat(cameras, {camera.name: self._post(camera) for camera in cameras})
        self._crowded_since_ns: Optional[int] = None
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
            camera.name: self._post(camera) for camera in cameras if self._needs_reader(camera)
        }
        self._seat(cameras, posts)
        self._tell_feeds()

    def look(self, now_ns: int) -> bool:
        """Looks after the readers, called several times a second; True if the feeds changed."""
        self._watchdog.check(now_ns)
        self._check_left_behind(now_ns)
        has_changed = [station.settle(now_ns) for station in self._stations.values()]
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

    def _needs_reader(self, camera: CameraConfig) -> bool:
        station = self._stations.get(camera.name)
        return station is None or not station.is_present or needs_new_reader(station.config, camera)

    def _post(self, camera: CameraConfig) -> Post:
        mailbox = Mailbox(camera.name, self._surroundings.wake)
        voice = Voice(self._surroundings.on_status)
        return Post(self._surroundings.make_reader(camera, mailbox, voice.tell), mailbox, voice)

    def _seat(self, cameras: Sequence[CameraConfig], posts: Mapping[str, Post]) -> None:
        self._reserve(sum(camera.priority for camera in cameras))
        names = [camera.name for camera in cameras]
        for name in self._order:
            if name not in names:
                self._remove(self._stations[name])
        for camera in cameras:
            self._place(camera, posts.get(camera.name))
        # Only now: those that gave up their slots may stand behind those that get them.
        for camera in cameras:
            station = self._stations[camera.name]
            if camera.priority and station.ring is None:
                station.ring = self._rings.pop()
        self._order = names
        present = [self._stations[name].post.reader for name in names]
        self._watchdog = Watchdog(present, self._surroundings.on_failure)

    def _reserve(self, needed: int) -> None:
        """Makes the slots that are missing; none is ever freed, as memory on a GPU ends with it."""
        while self._ring_count < needed:
            self._rings.append(self._surroundings.make_ring())
            self._ring_count += 1

    def _place(self, camera: CameraConfig, post: Optional[Post]) -> None:
        station = self._stations.get(camera.name)
        if station is None:
            if post is not None:
                self._stations[camera.name] = Station(camera, post)
            return
        if post is not None or changed_keys(station.config, camera):
            patient_until_ns = self._clock.monotonic_ns() + int(CAPTURE_STOP_S * NS_PER_S)
            station.change(camera, post, patient_until_ns)
        if not camera.priority:
            self._give_back(station)

    def _remove(self, station: Station) -> None:
        self._surroundings.on_status(station.remove(self._clock.unix_ms()))
        self._give_back(station)

    def _give_back(self, station: Station) -> None:
        # Slots that are still out return to it, whoever has it by then.
        if station.ring is not None:
            self._rings.append(station.ring)
            station.ring = None

    def _tell_feeds(self) -> None:
        self._surroundings.on_feeds(self.shared_feeds, self.reserved)

    def _check_left_behind(self, now_ns: int) -> None:
        unfinished = {name: s.unfinished for name, s in self._stations.items() if s.unfinished}
        if sum(unfinished.values()) < MAX_HANGING:
            self._crowded_since_ns = None
            return
        if self._crowded_since_ns is None:
            self._crowded_since_ns = now_ns
        if now_ns - self._crowded_since_ns >= LEAVING_S * NS_PER_S:
            cameras = ", ".join(f"{name} {count}" for name, count in unfinished.items())
            error = CaptureError(
                f"{sum(unfinished.values())} threads hang in the drivers of cameras that were "
                f"changed or removed ({cameras}): only a restart of the process frees what they "
                "hold"
            )
            self._surroundings.on_failure("capture", error)
