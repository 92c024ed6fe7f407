from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Callable, List, Optional, Sequence

import numpy as np
import pytest

from edge.capture import open_source
from edge.capture.source import Busy, Picture
from edge.capture.survey import probe as probing
from edge.capture.survey.finding import Finding
from edge.capture.survey.probe import (
    Job,
    ProbeResult,
    ProbeState,
    Viewer,
    frame_rate,
    probe,
    probe_all,
)
from edge.clock import ManualClock, SystemClock
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
from tests.capture.conftest import Media
from tests.capture.rtsp_camera import RtspCamera

PATIENT_S, SHORT_S = 30.0, 0.1


def camera(name: str = "gate", uri: str = "clip.mp4", **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": name, "uri": uri, **keys})


def picture(media_s: Optional[float] = None) -> Picture:
    return Picture(np.zeros((12, 16, 3), np.uint8), media_s)


class ScriptedSource:
    """Each step is a picture, None for the end, an error, or something that waits."""

    def __init__(self, *steps: object) -> None:
        self._steps = iter(steps)
        self.is_closed = threading.Event()

    def open(self) -> None:
        return

    def read(self) -> Optional[Picture]:
        step = next(self._steps)
        if isinstance(step, CaptureError):
            raise step
        if callable(step):
            step = step()
        assert step is None or isinstance(step, Picture)
        return step

    def close(self) -> None:
        self.is_closed.set()


def nothing_known(camera: CameraConfig) -> Optional[Finding]:
    return None


def unwanted(camera: CameraConfig) -> Optional[Finding]:
    raise AssertionError(f"{camera.name} is diagnosed")


def look(
    source: ScriptedSource,
    diagnose: Callable[[CameraConfig], Optional[Finding]] = nothing_known,
    timeout_s: float = PATIENT_S,
) -> ProbeResult:
    return probe(Job(camera(), source), diagnose, SystemClock(), timeout_s)


def hang(gate: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        gate.wait(60)

    return wait


@pytest.mark.parametrize(
    ("moments_s", "fps"),
    [
        ([], None),
        ([3.0], None),
        ([3.0, 3.0], None),
        ([3.0, 3.5], 2.0),
        ([0.0, 0.1, 0.2, 0.3], 10.0),
        ([0.0, 0.0, 0.0, 1.0], 3.0),
    ],
)
def test_the_rate_of_frames(moments_s: Sequence[float], fps: Optional[float]) -> None:
    assert frame_rate(moments_s) == (None if fps is None else pytest.approx(fps))


def test_a_live_camera_is_watched_for_a_second() -> None:
    clock = ManualClock(monotonic_ns=5_000_000_000)

    def frame() -> Picture:
        clock.advance_ms(250)
        return picture()

    source = ScriptedSource(*[frame] * 100)
    view = Viewer(source, clock).run()
    assert (view.frames, view.fps, view.first_frame_s) == (5, 4.0, 0.25)
    assert view.size_wh == (16, 12)
    assert view.taken_unix_ms == clock.unix_ms()
    assert source.is_closed.is_set()


def test_a_recordings_rate_is_its_own() -> None:
    source = ScriptedSource(*[picture(n / 25) for n in range(100)])
    view = Viewer(source, ManualClock(1)).run()
    assert view.fps == pytest.approx(25.0)
    assert view.frames == 10


@pytest.mark.parametrize(
    ("steps", "state", "frames", "reason"),
    [
        pytest.param([picture(0.0), None], ProbeState.OK, 1, "", id="a single picture"),
        pytest.param([None], ProbeState.FAILED, 0, "holds no picture", id="empty"),
        pytest.param([CaptureError("gone")], ProbeState.FAILED, 0, "gone", id="never came"),
        pytest.param(
            [picture(), CaptureError("broke off")], ProbeState.FAILED, 1, "broke off", id="breaks"
        ),
    ],
)
def test_what_comes_of_a_probe(
    steps: List[object], state: ProbeState, frames: int, reason: str
) -> None:
    source = ScriptedSource(*steps)
    result = look(source)
    assert result.state is state
    assert (result.view.frames if result.view else 0) == frames
    assert reason in (result.finding.reason if result.finding else "")
    assert source.is_closed.is_set()


def test_a_source_that_hangs_is_left_behind_undiagnosed_and_closes_itself_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "_LETTING_GO_S", SHORT_S)
    gate = threading.Event()
    source = ScriptedSource(hang(gate))
    result = look(source, unwanted, timeout_s=SHORT_S)
    assert result.state is ProbeState.FAILED
    assert result.finding is not None
    assert result.finding.reason == "no frame within 0.1 s"
    assert result.finding.advice.startswith("its driver hangs: ")
    assert not source.is_closed.is_set()
    gate.set()
    assert source.is_closed.wait(60)


@pytest.mark.parametrize("reason", ["gone", "no frame within 0.1 s"], ids=["its words", "none"])
def test_a_camera_is_diagnosed_only_when_the_probe_has_let_it_go(reason: str) -> None:
    gate, closed = threading.Event(), []

    def late() -> None:
        gate.wait(60)
        if reason == "gone":
            raise CaptureError(reason)

    source = ScriptedSource(late)

    def diagnose(camera: CameraConfig) -> Optional[Finding]:
        closed.append(source.is_closed.is_set())
        return Finding("", "look")

    threading.Timer(1.0, gate.set).start()  # the time for a frame is over long before
    result = look(source, diagnose, timeout_s=SHORT_S)
    assert closed == [True]
    assert result.finding == Finding(reason, "look")


class Waiting(ScriptedSource):
    """Has to wait for its turn, so many times; each takes longer than a camera has."""

    def __init__(self, times: int, *steps: object) -> None:
        super().__init__(*steps)
        self._times = times
        self.opened = 0

    def open(self) -> None:
        if self._times:
            self._times -= 1
            time.sleep(0.15)
            raise Busy("other cameras are being opened")
        self.opened += 1


def test_the_wait_for_ones_turn_takes_nothing_of_ones_time() -> None:
    source = Waiting(5, picture(0.0), None)
    result = look(source, timeout_s=0.5)
    assert result.state is ProbeState.OK, result.finding
    assert result.view is not None
    assert source.opened == 1


def test_a_source_that_hangs_after_its_first_frame_gave_one() -> None:
    gate = threading.Event()
    source = ScriptedSource(picture(), hang(gate))
    result = look(source, timeout_s=1.0)
    gate.set()
    assert result.state is ProbeState.OK
    assert result.view is not None
    assert (result.view.frames, result.view.fps) == (1, None)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Finding("wrong path", "look"), Finding("wrong path", "look")),
        (Finding("", "look"), Finding("gone", "look")),
        (None, Finding("gone")),
    ],
    ids=["knows better", "knows what to do", "knows nothing"],
)
def test_a_diagnosis_goes_before_the_sources_words(
    told: Optional[Finding], expected: Finding
) -> None:
    assert look(ScriptedSource(CaptureError("gone")), lambda _: told).finding == expected


def test_a_diagnosis_that_fails_costs_nothing() -> None:
    def fail(camera: CameraConfig) -> Optional[Finding]:
        raise CaptureError("no")

    assert look(ScriptedSource(CaptureError("gone")), fail).finding == Finding("gone")


def test_a_camera_that_works_is_not_diagnosed() -> None:
    asked: List[str] = []

    def ask(camera: CameraConfig) -> Optional[Finding]:
        asked.append(camera.name)
        return None

    assert look(ScriptedSource(picture(0.0), None), ask).state is ProbeState.OK
    assert asked == []


def test_cameras_are_probed_side_by_side_and_told_in_order() -> None:
    barrier = threading.Barrier(3)

    def together() -> Picture:
        barrier.wait(60)  # passes only when all three read at once
        return picture(0.0)

    jobs = [Job(camera(name), ScriptedSource(together, None)) for name in ("a", "b", "c")]
    jobs.insert(1, Job(camera("off", enabled=False), None))
    jobs.append(Job(camera("wrong"), None, Finding("needs GStreamer")))
    results = list(probe_all(jobs, nothing_known, SystemClock(), PATIENT_S))
    assert [(result.camera.name, result.state.value) for result in results] == [
        ("a", "ok"),
        ("off", "disabled"),
        ("b", "ok"),
        ("c", "ok"),
        ("wrong", "failed"),
    ]
    assert results[-1].finding == Finding("needs GStreamer")


def test_a_network_camera_through_its_own_source(media: Media, tmp_path: Path) -> None:
    with RtspCamera(media.clip, tmp_path) as served:
        config = camera(uri=f"rtsp://127.0.0.1:{served.port}/stream")
        source = open_source(config, tmp_path, lambda *_: lambda _: np.zeros((1, 1, 3), np.uint8))
        result = probe(Job(config, source), nothing_known, SystemClock(), PATIENT_S)
    assert result.state is ProbeState.OK, result.finding
    assert result.view is not None
    assert result.view.size_wh == (160, 120)
    assert result.view.frames > 1
