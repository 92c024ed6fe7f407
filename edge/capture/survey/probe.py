"""Looks through a camera's own source for about a second."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from edge.capture.source import Picture, Source, open_in_turn
from edge.capture.survey.attempt import Attempt
from edge.capture.survey.finding import Finding
from edge.clock import NS_PER_S, Clock
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
from edge.geometry import Image

Diagnose = Callable[[CameraConfig], Optional[Finding]]
"""Says why a camera does not deliver, None if nothing is known; it may hang."""

_WATCHED_NS = NS_PER_S
# A recording comes as fast as it decodes.
_MOST_RECORDED = 10
_DIAGNOSIS_S = 15.0
_PATIENCE_S = 5.0


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


class Watch:
    """Opens a source and watches it; `view` is there from the first frame on."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._opened_ns = clock.monotonic_ns()
        self._first_ns = 0
        self._is_recorded = False
        self._moments_s: List[float] = []
        self.view: Optional[View] = None

    def run(self) -> View:
        """Returns what was seen in about a second; raises CaptureError."""
        try:
            open_in_turn(self._source)
            while not self._is_enough():
                picture = self._source.read()
                if picture is None:
                    break
                self._see(picture)
        finally:
            self._source.close()
        if self.view is None:
            raise CaptureError("it holds no picture")
        return self.view

    def _is_enough(self) -> bool:
        if self.view is None:
            return False
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
    attempts = [
        Attempt(f"probe-{job.camera.name}", _bound(job, diagnose, clock, timeout_s)) for job in jobs
    ]
    for job, attempt in zip(jobs, attempts):
        try:
            result = attempt.result(timeout_s + _DIAGNOSIS_S + _PATIENCE_S)
        except CaptureError as error:
            result = _failed(job.camera, Finding(str(error)))
        yield result or _failed(job.camera, Finding("the probe hangs"))


def _bound(
    job: Job, diagnose: Diagnose, clock: Clock, timeout_s: float
) -> Callable[[], ProbeResult]:
    return lambda: probe(job, diagnose, clock, timeout_s)


def probe(job: Job, diagnose: Diagnose, clock: Clock, timeout_s: float) -> ProbeResult:
    """Probes one camera, and has it diagnosed if it fails."""
    camera, source, finding = job
    if not camera.enabled:
        return ProbeResult(camera, ProbeState.DISABLED)
    if source is None:
        return _failed(camera, finding)
    watch = Watch(source, clock)
    attempt = Attempt(f"watch-{camera.name}", watch.run)
    try:
        view = attempt.result(timeout_s) or watch.view
    except CaptureError as error:
        return _failed(camera, _explain(camera, diagnose, str(error)), watch.view)
    if view is not None:
        return ProbeResult(camera, ProbeState.OK, view)
    return _failed(camera, _explain(camera, diagnose, f"no frame within {timeout_s:g} s"))


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
