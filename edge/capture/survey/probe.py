"""Looks through a camera's own source for about a second."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from edge.capture.attempt import Attempt
from edge.capture.source import Picture, Source, open_in_turn
from edge.capture.survey.finding import Finding
from edge.clock import NS_PER_S, Clock
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
from edge.geometry import Image
from edge.threads import call_in_thread

Diagnose = Callable[[CameraConfig], Optional[Finding]]
"""Says why a camera does not deliver, None if nothing is known; it may hang."""

_WATCHED_NS = NS_PER_S
# A recording comes as fast as it decodes.
_MOST_RECORDED = 10
_DIAGNOSIS_S = 15.0
# Longer than OpenCV's own time-outs of a network camera.
_LETTING_GO_S = 20.0
_HANGS = "its driver hangs: unplug the camera and plug it in again, or restart"


class ProbeState(str, Enum):
    """What came of a probe."""

    OK = "ok"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, eq=False)
class View:
    """The newest picture, uint8 [h, w, 3] BGR, and how it came.

    `fps` is measured, None from a single frame; `first_frame_s` is counted from the opening.
    """

    image: Image
    frames: int
    fps: Optional[float]
    first_frame_s: float
    taken_unix_ms: int

    @property
    def size_wh(self) -> Tuple[int, int]:
        """Pixels."""
        height, width = self.image.shape[:2]
        return width, height


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """One camera's probe; a failed one may have a view, from before it broke off."""

    camera: CameraConfig
    state: ProbeState
    view: Optional[View] = None
    finding: Optional[Finding] = None


class Job(NamedTuple):
    """A camera and its source; or, where no source could be made, what is wrong."""

    camera: CameraConfig
    source: Optional[Source]
    finding: Optional[Finding] = None


class Viewer:
    """Opens a source and watches it; `view` is there from the first frame on."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._opened_ns = clock.monotonic_ns()
        self._first_ns = 0
        self._is_recorded = False
        self._moments_s: List[float] = []
        self._end = ""
        self.view: Optional[View] = None

    def run(self) -> View:
        """Returns what was seen in about a second; raises CaptureError."""
        try:
            open_in_turn(self._source, self._begin)
            while not self._is_enough():
                picture = self._source.read()
                if picture is None:
                    break
                self._see(picture)
        finally:
            self._source.close()
        if self.view is None:
            raise CaptureError(self._end or "it holds no picture")
        return self.view

    def left_s(self, timeout_s: float) -> float:
        """What is left of a time for the first frame; it begins when the source's turn has come."""
        return timeout_s - (self._clock.monotonic_ns() - self._opened_ns) / NS_PER_S

    def stop(self, reason: str) -> None:
        """Has `run` end as soon as the source comes back, for lack of a frame for this reason."""
        self._end = reason

    def _begin(self) -> None:
        self._opened_ns = self._clock.monotonic_ns()

    def _is_enough(self) -> bool:
        if self.view is None:
            return bool(self._end)
        if self._is_recorded and len(self._moments_s) >= _MOST_RECORDED:
            return True
        return self._clock.monotonic_ns() - self._first_ns >= _WATCHED_NS

    def _see(self, picture: Picture) -> None:
        now_ns = self._clock.monotonic_ns()
        self._first_ns = self._first_ns or now_ns
        self._is_recorded = picture.media_s is not None
        moment_s = now_ns / NS_PER_S if picture.media_s is None else picture.media_s
        self._moments_s.append(moment_s)
        self.view = View(
            image=picture.image,
            frames=len(self._moments_s),
            fps=frame_rate(self._moments_s),
            first_frame_s=(self._first_ns - self._opened_ns) / NS_PER_S,
            taken_unix_ms=self._clock.unix_ms(),
        )


def frame_rate(moments_s: Sequence[float]) -> Optional[float]:
    """Frames per second over the moments of frames, in order; None where they do not tell."""
    span_s = moments_s[-1] - moments_s[0] if moments_s else 0.0
    return (len(moments_s) - 1) / span_s if span_s > 0 else None


def probe_all(
    jobs: Sequence[Job], diagnose: Diagnose, clock: Clock, timeout_s: float
) -> Iterator[ProbeResult]:
    """Probes all cameras side by side; yields in their order, each as soon as it is known.

    A camera has `timeout_s` for its first frame; what hangs after it is left behind.
    """
    answers = [
        call_in_thread(f"probe-{job.camera.name}", partial(probe, job, diagnose, clock, timeout_s))
        for job in jobs
    ]
    for answer in answers:
        yield answer.result()


def probe(job: Job, diagnose: Diagnose, clock: Clock, timeout_s: float) -> ProbeResult:
    """Probes one camera, and has it diagnosed if it fails."""
    camera, source, finding = job
    if not camera.enabled:
        return ProbeResult(camera, ProbeState.DISABLED)
    if source is None:
        return _failed(camera, finding)
    viewer = Viewer(source, clock)
    try:
        view = _look(viewer, camera.name, timeout_s)
    except CaptureError as error:
        return _failed(camera, _explain(camera, diagnose, str(error)), viewer.view)
    if view is None:
        # Not diagnosed: a camera that still serves the probe looks as if it were in use.
        return _failed(camera, Finding(_no_frame(timeout_s), _HANGS))
    return ProbeResult(camera, ProbeState.OK, view)


def _look(viewer: Viewer, name: str, timeout_s: float) -> Optional[View]:
    """What is seen; None from a source that hangs.

    Raises CaptureError if there is nothing to be seen, when the source is closed.
    """
    attempt = Attempt(f"watch-{name}", viewer.run)
    left_s = timeout_s
    while left_s > 0 and attempt.result(left_s) is None:
        left_s = viewer.left_s(timeout_s)
    if viewer.view is None:
        viewer.stop(_no_frame(timeout_s))
        attempt.result(_LETTING_GO_S)
    return viewer.view


def _no_frame(timeout_s: float) -> str:
    return f"no frame within {timeout_s:g} s"


def _explain(camera: CameraConfig, diagnose: Diagnose, reason: str) -> Finding:
    """The diagnosis, with what the source said where it has no reason of its own."""
    attempt = Attempt(f"diagnose-{camera.name}", lambda: [diagnose(camera)])
    try:
        told = attempt.result(_DIAGNOSIS_S)
    except CaptureError:
        told = None
    finding = told[0] if told is not None else None
    if finding is None:
        return Finding(reason)
    return finding if finding.reason else Finding(reason, finding.advice)


def _failed(
    camera: CameraConfig, finding: Optional[Finding], view: Optional[View] = None
) -> ProbeResult:
    return ProbeResult(camera, ProbeState.FAILED, view, finding)
