"""When a batch leaves, and who rides in it: pure decisions, time comes in as a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Iterable, List, Optional, Sequence

from edge.batching.arrivals import Arrivals
from edge.clock import NS_PER_MS
from edge.config.schema import BatchingConfig, Window
from edge.records import BatchSetting


@dataclass(frozen=True)
class Rider:
    """A frame in a row of the open slot."""

    camera: str
    captured_ns: int


@dataclass(frozen=True)
class Decision:
    """Close the open slot now, or look again at `wake_ns` (None: only when something changes)."""

    close: bool
    wake_ns: Optional[int] = None


class Placement(Enum):
    """Where a waiting frame goes."""

    NEW_ROW = "new_row"
    OWN_ROW = "own_row"
    WAIT = "wait"


_CLOSE = Decision(close=True)
_IDLE = Decision(close=False)


class BatchPolicy:
    """Closes on full, or when the slot's first frame has waited long enough.

    Never while the pipeline is busy (late binding): a slot closed early would only queue, while
    an open one still takes newer frames.
    """

    def __init__(self, config: BatchingConfig) -> None:
        self._rows = config.target
        self._setting = BatchSetting(config.target, config.max_wait_ms)
        self._per_camera = config.max_frames_per_camera
        self._is_window_auto = config.window is Window.AUTO
        self._align_ns = None if config.align_ms is None else int(config.align_ms * NS_PER_MS)
        self.arrivals = Arrivals()

    @property
    def setting(self) -> BatchSetting:
        """The target and the window that hold now."""
        return self._setting

    def apply(self, setting: BatchSetting) -> None:
        """Changes both from the next decision on; safe from any thread.

        A slot that is fuller than a smaller target leaves as soon as the pipeline can take it.
        """
        if not 1 <= setting.target <= self._rows:
            raise ValueError(f"a target within 1..{self._rows} expected, got {setting.target}")
        # One reference, replaced at once: the batcher's thread sees the old pair or the new.
        self._setting = setting

    def place(self, riders: Sequence[Rider], frame: Rider) -> Placement:
        """Decides about a waiting frame; `riders` are the slot's frames, in the order they came.

        A camera that has its share of rows gives up its oldest for a newer frame. With alignment,
        a frame that was captured too long before or after the riders waits for the next slot.
        """
        is_full = len(riders) >= self._setting.target
        own = [rider for rider in riders if rider.camera == frame.camera]
        is_replacing = len(own) >= self._per_camera or (bool(own) and is_full)
        if not is_replacing and is_full:
            return Placement.WAIT
        others = [rider for rider in riders if not (is_replacing and rider is own[0])]
        if not self._is_aligned(others, frame):
            return Placement.WAIT
        return Placement.OWN_ROW if is_replacing else Placement.NEW_ROW

    def decide(
        self,
        riders: Sequence[Rider],
        opened_ns: int,
        waiting: Iterable[Rider],
        can_take: bool,
        now_ns: int,
    ) -> Decision:
        """Decides about a slot that holds `riders`, the first of them since `opened_ns`.

        A slot that holds all that the delivering cameras can contribute is full below the target.
        A waiting frame too new for the riders closes the slot: what could still join is late.
        """
        if not riders or not can_take:
            return _IDLE
        contributors = max(self.arrivals.delivering(now_ns), 1) * self._per_camera
        if len(riders) >= min(self._setting.target, contributors):
            return _CLOSE
        if any(self._is_too_new(riders, frame) for frame in waiting):
            return _CLOSE
        deadline_ns = opened_ns + self.window_ns(now_ns)
        return _CLOSE if now_ns >= deadline_ns else Decision(close=False, wake_ns=deadline_ns)

    def is_outdated(self, riders: Sequence[Rider], waiting: Iterable[Rider]) -> bool:
        """Tells whether a newer group of frames, of as many cameras, waits behind the riders."""
        if not riders:
            return False
        newer = [frame for frame in waiting if self._is_too_new(riders, frame)]
        newest = max(newer, key=lambda frame: frame.captured_ns, default=None)
        if newest is None:
            return False
        group = {frame.camera for frame in newer if self._is_aligned([frame], newest)}
        return len(group) >= len({rider.camera for rider in riders})

    def window_ns(self, now_ns: int) -> int:
        """How long a slot waits for more frames after its first."""
        setting = self._setting
        limit_ns = int(setting.window_ms * NS_PER_MS)
        if not self._is_window_auto:
            return limit_ns
        return self.arrivals.window_ns(setting.target, limit_ns, now_ns)

    def _is_aligned(self, riders: Sequence[Rider], frame: Rider) -> bool:
        if self._align_ns is None or not riders:
            return True
        captured_ns = [rider.captured_ns for rider in riders] + [frame.captured_ns]
        return max(captured_ns) - min(captured_ns) <= self._align_ns

    def _is_too_new(self, riders: Sequence[Rider], frame: Rider) -> bool:
        if self._align_ns is None:
            return False
        return frame.captured_ns - min(rider.captured_ns for rider in riders) > self._align_ns


class TurnOrder:
    """Least recently admitted camera first, so that more cameras than rows starve nobody."""

    def __init__(self) -> None:
        self._last_turn: Dict[str, int] = {}
        self._turn = 0

    def sorted(self, cameras: Iterable[str]) -> List[str]:
        """The cameras in the order in which they may take a free row."""
        return sorted(cameras, key=lambda camera: self._last_turn.get(camera, -1))

    def admitted(self, camera: str) -> None:
        """Notes that `camera` took a row."""
        self._turn += 1
        self._last_turn[camera] = self._turn

    def forget(self, camera: str) -> None:
        """`camera` is gone; should it come back, it is the first."""
        self._last_turn.pop(camera, None)
