from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List, Optional, cast

import pytest

from edge.clock import ManualClock
from edge.config.schema import CameraConfig, Config
from edge.errors import EngineError
from edge.health.ladder import GovernedCamera
from edge.line import Line
from edge.publish.publisher import Publisher
from edge.records import (
    Alert,
    CameraCounters,
    CameraState,
    CameraStatus,
    GovernorStatus,
    PipelineCounters,
    PublisherCounters,
    Restraints,
)
from edge.upkeep import Outlook, Upkeep, governed
from tests.health.sysfs_files import write_files


def counters(fps_read: float, state: CameraState = CameraState.ONLINE) -> CameraCounters:
    status = CameraStatus("yard", state, 0)
    return CameraCounters(status, 0, 0, 0, 0, {}, fps_read, 0.0, None, None)


@pytest.mark.parametrize(
    ("cap_fps", "known", "expected_fps"),
    [
        pytest.param(None, counters(29.9), 29.9, id="what it delivers"),
        pytest.param(10.0, counters(29.9), 10.0, id="what its cap lets through"),
        pytest.param(50.0, counters(29.9), 29.9, id="a cap above its rate"),
        pytest.param(None, counters(29.9, CameraState.OFFLINE), 0.0, id="offline"),
        pytest.param(None, counters(29.9, CameraState.DISABLED), 0.0, id="disabled"),
        pytest.param(None, None, 0.0, id="just added"),
    ],
)
def test_what_a_camera_costs(
    cap_fps: Optional[float], known: Optional[CameraCounters], expected_fps: float
) -> None:
    camera = CameraConfig.model_validate(
        {
            "name": "yard",
            "uri": "rtsp://yard/1",
            "fps": cap_fps,
            "importance": 3,
            "max_staleness_ms": 80,
        }
    )
    found = governed(camera, {} if known is None else {"yard": known})
    assert found == GovernedCamera("yard", expected_fps, 3, False, 80.0)


class Stubborn:
    """A line that cannot carry out the first steps it is told."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.restraints: List[Restraints] = []

    def counters(self) -> PipelineCounters:
        cameras = {"yard": counters(30.0), "door": counters(30.0)}
        return replace(PipelineCounters.zero(), cameras=cameras)

    def statuses(self) -> List[CameraStatus]:
        return []

    def restrain(self, restraints: Restraints) -> None:
        if self.refusals:
            self.refusals -= 1
            raise EngineError("no room")
        self.restraints.append(restraints)


class Gateway:
    """What would have been published."""

    def __init__(self) -> None:
        self.statuses: List[GovernorStatus] = []
        self.raised: List[str] = []

    def publish_governor(self, status: GovernorStatus) -> None:
        self.statuses.append(status)

    def raise_alert(self, alert: Alert) -> None:
        self.raised.append(alert.id)

    def counters(self) -> PublisherCounters:
        return PublisherCounters(True, "gw", 0, 0, {})


def test_what_cannot_be_carried_out_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config.model_validate(
        {
            "model": {"path": "m.onnx"},
            "cameras": [{"name": name, "uri": "synthetic://1"} for name in ("door", "yard")],
            "governor": {"temp_c": 80},
        }
    )
    clock, gateway, line = ManualClock(), Gateway(), Stubborn(refusals=2)
    outlook = Outlook(lambda: {"temp_cpu_c": 81.0}, lambda: config, tmp_path)
    upkeep = Upkeep(outlook, cast(Publisher, gateway), clock)
    for _ in range(20):
        upkeep.look(cast(Line, line))
        clock.advance_ms(250)  # as often as the main loop comes by
    assert [found.fps for found in line.restraints] == [{"yard": 15.0}]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["the governor's step cannot be carried out: no room"]
    assert [len(status.steps) for status in gateway.statuses] == [1]
    assert upkeep.numbers() == {"alerts": 0, "governor_steps": 1, "governor_changes_total": 1}


@pytest.mark.parametrize(
    ("module", "trip", "temp_c", "is_shed"),
    [
        pytest.param("Jetson Xavier NX", "90000", 85.0, True, id="5 below the trip point"),
        pytest.param("Jetson Xavier NX", "90000", 84.9, False, id="cool enough"),
        pytest.param("Jetson Xavier NX", None, 99.0, False, id="no trip point"),
        pytest.param(None, "90000", 89.0, False, id="no Jetson: laptops run hot"),
    ],
)
def test_the_target_of_itself(
    tmp_path: Path, module: Optional[str], trip: Optional[str], temp_c: float, is_shed: bool
) -> None:
    files = {"sys/class/thermal/thermal_zone0/type": "cpu-thermal\n"}
    if module is not None:
        files["proc/device-tree/model"] = module
    if trip is not None:
        files["sys/class/thermal/thermal_zone0/trip_point_0_type"] = "passive\n"
        files["sys/class/thermal/thermal_zone0/trip_point_0_temp"] = trip
    config = Config.model_validate(
        {
            "model": {"path": "m.onnx"},
            "cameras": [{"name": name, "uri": "synthetic://1"} for name in ("door", "yard")],
        }
    )
    outlook = Outlook(lambda: {"temp_cpu_c": temp_c}, lambda: config, write_files(tmp_path, files))
    line = Stubborn(refusals=0)
    Upkeep(outlook, cast(Publisher, Gateway()), ManualClock()).look(cast(Line, line))
    assert bool(line.restraints) == is_shed
