from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.app import App, Substitutes
from edge.condition import appliance_state
from edge.config.schema import Config
from edge.errors import EXIT_SOFTWARE, EngineError
from edge.geometry import Image
from edge.inference.engine import Synchronous
from edge.publish.payload import ApplianceState
from edge.records import CameraState, CameraStatus, EngineInfo, PictureState
from tests.building.tiny_detectors import TinyDetector

ONLINE, STARTING = CameraState.ONLINE, CameraState.STARTING
OFFLINE, STALLED = CameraState.OFFLINE, CameraState.STALLED
DISABLED, ENDED = CameraState.DISABLED, CameraState.ENDED


@pytest.mark.parametrize(
    ("cameras", "expected", "reason"),
    [
        pytest.param([ONLINE], ApplianceState.READY, "", id="one online"),
        pytest.param([ONLINE, STARTING], ApplianceState.READY, "", id="one still starting"),
        pytest.param([ONLINE, DISABLED, ENDED], ApplianceState.READY, "", id="others at rest"),
        pytest.param([STARTING], ApplianceState.BUILDING, "first frame", id="all starting"),
        pytest.param([ONLINE, OFFLINE], ApplianceState.DEGRADED, "cam1 offline", id="one offline"),
        pytest.param([STALLED], ApplianceState.DEGRADED, "cam0 stalled", id="only one, stalled"),
        pytest.param([STARTING, OFFLINE], ApplianceState.DEGRADED, "cam1", id="offline at start"),
        pytest.param([DISABLED], ApplianceState.DEGRADED, "no camera", id="all disabled"),
        pytest.param([ENDED, DISABLED], ApplianceState.DEGRADED, "no camera", id="all ended"),
    ],
)
def test_the_cameras_make_the_state(
    cameras: list[CameraState], expected: ApplianceState, reason: str
) -> None:
    statuses = [
        CameraStatus(f"cam{number}", state, 0, "because") for number, state in enumerate(cameras)
    ]
    state, words = appliance_state(statuses)
    assert state is expected
    assert reason in words
    assert bool(words) == bool(reason)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(PictureState.OK, ApplianceState.READY, id="ok"),
        pytest.param(PictureState.BLACK, ApplianceState.READY, id="black, as a room at night"),
        pytest.param(PictureState.FROZEN, ApplianceState.DEGRADED, id="frozen"),
        pytest.param(PictureState.COVERED, ApplianceState.DEGRADED, id="covered"),
    ],
)
def test_what_a_camera_shows_makes_the_state(
    picture: PictureState, expected: ApplianceState
) -> None:
    status = CameraStatus("gate", ONLINE, 0, "it shows nothing new", picture)
    state, words = appliance_state([status])
    assert state is expected
    assert words == ("" if state is ApplianceState.READY else f"camera gate: {status.reason}")


def test_an_outbox_in_trouble_degrades_the_appliance() -> None:
    status = CameraStatus("gate", ONLINE, 0, "")
    state, words = appliance_state([status], "disk is full; free some space")
    assert state is ApplianceState.DEGRADED
    assert words == "outbox: disk is full; free some space; it keeps messages in memory"


class Hung(Synchronous):
    """A device that takes a batch and is never heard of again."""

    info = EngineInfo("hung", "1", "gpu 0", "fp16", 8)
    input_wh = TinyDetector().input_wh

    def __init__(self) -> None:
        self.released = threading.Event()
        self.is_closed = False

    def infer(self, frames: Image) -> NDArray[np.float32]:
        self.released.wait(60)
        raise EngineError("too late")

    def close(self) -> None:
        self.is_closed = True


def test_a_device_that_hangs_ends_the_daemon_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.app.SHUTDOWN_S", 3.0)
    config = Config.model_validate(
        {
            "device": {"state_dir": tmp_path},
            "model": {"path": TinyDetector().save(tmp_path)},
            "engine": {"stall_s": 1},
            "cameras": [{"name": "a", "uri": "synthetic://1?size=96x64"}],
            "mqtt": {"host": "127.0.0.1", "port": 9},  # nobody answers there
        }
    )
    engine = Hung()
    app = App(config, tmp_path, threading.Event(), substitutes=Substitutes(engine))
    with pytest.raises(EngineError, match=r"no result for \d s .*gpu 0 hangs") as caught:
        app.run()
    assert caught.value.exit_code == EXIT_SOFTWARE
    assert not engine.is_closed
    engine.released.set()


class Overlapping(Synchronous):
    """As a GPU: several batches at once, so that priority frames deserve an engine of their own."""

    info = EngineInfo("double", "1", "gpu 0", "fp16", 8)
    input_wh = TinyDetector().input_wh
    in_flight = 2

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return np.zeros((len(frames), 4, 6), np.float32)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("was_priority", [False, True], ids=["the first", "another"])
def test_the_first_priority_camera_that_comes_by_reload_shares_the_engine_and_is_told_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, was_priority: bool
) -> None:
    def config(*cameras: bool) -> Config:
        return Config.model_validate(
            {
                "device": {"state_dir": tmp_path},
                "model": {"path": TinyDetector().save(tmp_path)},
                "cameras": [
                    {"name": f"cam{n}", "uri": "synthetic://1?size=96x64", "priority": is_priority}
                    for n, is_priority in enumerate(cameras)
                ],
                "mqtt": {"host": "127.0.0.1", "port": 9},  # nobody answers there
            }
        )

    stop = threading.Event()
    app = App(config(was_priority), tmp_path, stop, substitutes=Substitutes(Overlapping()))
    app.reload(lambda: config(True))  # before anything runs there is nothing to change
    ticks = 0

    def on_tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 1:
            app.reload(lambda: config(was_priority, True))
        counters = app.counters()
        if "cam1" in counters.cameras and counters.cameras["cam1"].frames_inferred:
            stop.set()
        assert ticks < 200, counters

    with caplog.at_level("INFO"):
        app.run(on_tick)
    assert "configuration read again: added cam1" in caplog.text
    assert ("priority frames share the engine" in caplog.text) is not was_priority
