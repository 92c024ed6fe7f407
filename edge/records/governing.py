"""What the governor takes away from the cameras, and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Mapping, Optional, Tuple


class StepKind(str, Enum):
    """What a step changes: a camera's frames a second, the batch window, or whether it runs."""

    FPS = "fps"
    WINDOW = "window"
    PAUSE = "pause"


@dataclass(frozen=True)
class Step:
    """One measure of the governor: `before` and `after` in frames a second, of a window in
    milliseconds; `reason` says in words what made it necessary.

    `camera` is None where it concerns the batches of all.
    """

    kind: StepKind
    camera: Optional[str]
    before: float
    after: float
    reason: str


@dataclass(frozen=True)
class GovernorChange:
    """A step that was taken, or that was undone, and why."""

    step: Step
    is_undone: bool
    reason: str


@dataclass(frozen=True)
class GovernorStatus:
    """The steps that hold, in the order of their taking, and the last change.

    `is_exhausted`: a target is missed, and no step is left.
    """

    steps: Tuple[Step, ...] = ()
    change: Optional[GovernorChange] = None
    is_exhausted: bool = False


@dataclass(frozen=True)
class Restraints:
    """What all steps together amount to.

    `fps` limits cameras by name; `window_ms` takes the place of the configured one; `paused` gives
    for each camera that is paused the reason in words.
    """

    fps: Mapping[str, float] = field(default_factory=dict)
    window_ms: Optional[float] = None
    paused: Mapping[str, str] = field(default_factory=dict)


UNRESTRAINED = Restraints()
