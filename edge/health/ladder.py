"""Which load is shed next: slower cameras, then larger batches, then fewer cameras; pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Dict, List, Optional, Sequence, Set, Tuple

from edge.config.governor import GovernorConfig
from edge.records import Restraints, Step, StepKind

# Each halves what the engine has to do for the camera; a quarter of the frames is still a moving
# picture.
_HALVINGS = 2
# A step that changes less is not worth its turn.
_WORTHWHILE = 0.8

_FIRST_WINDOW_MS = 10.0
# A batch must have left, and come back, well before its frames are stale.
_OF_STALENESS = 0.5


@dataclass(frozen=True)
class GovernedCamera:
    """A camera as the governor sees it; `fps` is what it delivers of late, or may, if that is less.

    0 while it delivers nothing.
    """

    name: str
    fps: float
    importance: int = 5
    priority: bool = False
    max_staleness_ms: Optional[float] = None


@dataclass(frozen=True)
class Load:
    """What there is to shed: cameras in the order of the configuration, and the batch window that
    is configured.

    `window_room_ms` is by how much the latency may still grow; None: as it likes.
    """

    cameras: Sequence[GovernedCamera]
    window_ms: float
    window_room_ms: Optional[float] = None


class Ladder:
    """The steps of one load."""

    def __init__(self, config: GovernorConfig, load: Load, taken: Sequence[Step]) -> None:
        self._config = config
        self._load = load
        self._taken = taken
        self._paused = {step.camera for step in taken if step.kind is StepKind.PAUSE}
        shedable = [camera for camera in load.cameras if not camera.priority]
        # Sorting is stable: of equals the last one first.
        self._running = [
            camera
            for camera in sorted(reversed(shedable), key=lambda camera: camera.importance)
            if camera.name not in self._paused and camera.fps > 0
        ]

    def next(self, reason: str, *, may_widen: bool) -> Optional[Step]:
        """The next step, for this reason; None where nothing is left.

        `may_widen`: a longer window helps, too.
        """
        window = self._longer_window(reason) if may_widen else None
        return self._slower(reason) or window or self._fewer(reason)

    def _slower(self, reason: str) -> Optional[Step]:
        """Cameras of one importance take turns, so that none is at a quarter before its equals are
        at half.
        """
        for _, group in groupby(self._running, key=lambda camera: camera.importance):
            slowable = [camera for camera in group if self._slowed_fps(camera) is not None]
            if slowable:
                camera = min(slowable, key=lambda camera: self._halvings(camera.name))
                after = self._slowed_fps(camera)
                if after is not None:
                    before = self._present_fps(camera)
                    return Step(StepKind.FPS, camera.name, before, after, reason)
        return None

    def _slowed_fps(self, camera: GovernedCamera) -> Optional[float]:
        before = self._present_fps(camera)
        after = round(max(before / 2, self._config.min_fps), 3)
        is_worth_it = after <= _WORTHWHILE * before
        return after if is_worth_it and self._halvings(camera.name) < _HALVINGS else None

    def _present_fps(self, camera: GovernedCamera) -> float:
        limits = [step.after for step in self._fps_steps(camera.name)]
        return min([round(camera.fps, 3), *limits])

    def _halvings(self, camera: str) -> int:
        return len(self._fps_steps(camera))

    def _fps_steps(self, camera: str) -> List[Step]:
        return [step for step in self._taken if (step.kind, step.camera) == (StepKind.FPS, camera)]

    def _longer_window(self, reason: str) -> Optional[Step]:
        shared = [camera for camera in self._load.cameras if not camera.priority and camera.fps > 0]
        before = self._window_ms
        after = min(max(2 * before, _FIRST_WINDOW_MS), self._longest_window_ms(shared))
        if len(shared) < 2 or before > _WORTHWHILE * after:
            return None
        return Step(StepKind.WINDOW, None, before, round(after, 1), reason)

    @property
    def _window_ms(self) -> float:
        windows = [step.after for step in self._taken if step.kind is StepKind.WINDOW]
        return windows[-1] if windows else self._load.window_ms

    def _longest_window_ms(self, shared: Sequence[GovernedCamera]) -> float:
        room_ms = self._load.window_room_ms
        bounds = [self._config.max_window_ms]
        bounds += [] if room_ms is None else [self._window_ms + room_ms]
        bounds += [
            _OF_STALENESS * camera.max_staleness_ms
            for camera in shared
            if camera.max_staleness_ms is not None
        ]
        return min(bounds)

    def _fewer(self, reason: str) -> Optional[Step]:
        delivering = [
            camera
            for camera in self._load.cameras
            if camera.name not in self._paused and camera.fps > 0
        ]
        if not self._config.pause or not self._running or len(delivering) < 2:
            return None  # an appliance without any camera protects nothing
        camera = self._running[0]
        return Step(StepKind.PAUSE, camera.name, self._present_fps(camera), 0.0, reason)


def restraints(steps: Sequence[Step]) -> Restraints:
    """What the steps amount to, the last of each kind and camera."""
    fps: Dict[str, float] = {}
    paused: Dict[str, str] = {}
    window_ms = None
    for step in steps:
        if step.camera is None:
            window_ms = step.after
        elif step.kind is StepKind.PAUSE:
            paused[step.camera] = f"paused by the governor: {step.reason}"
        else:
            fps[step.camera] = step.after
    return Restraints(fps, window_ms, paused)


def still_due(steps: Sequence[Step], cameras: Sequence[GovernedCamera]) -> Tuple[Step, ...]:
    """The steps without those of cameras that are gone, or have priority by now."""
    governed: Set[Optional[str]] = {camera.name for camera in cameras if not camera.priority}
    return tuple(step for step in steps if step.camera is None or step.camera in governed)
