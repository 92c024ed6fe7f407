"""A module that grows hot while a gateway listens: alerts, and load that is shed and given back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.app import App, Substitutes
from edge.config.schema import Config
from edge.geometry import Image
from edge.inference.engine import Synchronous
from edge.records import EngineInfo
from tests.building.tiny_detectors import TinyDetector
from tests.e2e.test_run import validate
from tests.mosquitto import PATIENCE_S, Broker, Subscriber, free_port

Subscribe = Callable[..., Subscriber]

# The kernel of this module throttles from 90 °C on, so that the target is 85.
COOL_C, HOT_C, HOTTER_C = 60.0, 86.0, 89.0


class Idle(Synchronous):
    """An engine that sees nothing, at once."""

    info = EngineInfo("double", "1", "gpu 0", "fp16", 8)
    input_wh = TinyDetector().input_wh

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return np.zeros((len(frames), 4, 6), np.float32)

    def close(self) -> None:
        """Nothing is open."""


class Module:
    """The files of a Xavier NX that tell how hot it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        zone = root / "sys/class/thermal/thermal_zone0"
        zone.mkdir(parents=True)
        (zone / "type").write_text("CPU-therm\n")
        (zone / "trip_point_0_type").write_text("passive\n")
        (zone / "trip_point_0_temp").write_text("90000\n")
        self._temp = zone / "temp"
        model = root / "proc/device-tree/model"
        model.parent.mkdir(parents=True)
        model.write_text("NVIDIA Jetson Xavier NX Developer Kit\0")
        self.heat(COOL_C)

    def heat(self, celsius: float) -> None:
        self._temp.write_text(f"{celsius * 1000:.0f}\n")


class Site:
    """The daemon beside its module, and the gateway that hears it."""

    def __init__(self, config: Config, module: Module, gateway: Subscriber) -> None:
        self.module = module
        self.gateway = gateway
        self.failures: List[BaseException] = []
        self._stop = threading.Event()
        self._wanted: Optional[Config] = None
        self._app = App(
            config, module.root, self._stop, substitutes=Substitutes(Idle(), root=module.root)
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def said(self, leaf: str) -> List[Any]:
        return [m.json() for m in self.gateway.on(f"edge/nx/{leaf}") if m.payload]

    def last(self, leaf: str) -> Any:
        return (self.said(leaf) or [{}])[-1]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        self.gateway.wait_for(lambda: self.failures or condition(), what)
        assert self.failures == []

    def steps(self) -> List[str]:
        """As `fps yard`, in the order of their taking."""
        steps = self.last("governor").get("steps", [])
        return [f"{step['action']} {step.get('camera', '')}".strip() for step in steps]

    def end(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def reload(self, config: Config) -> None:
        self._wanted = config

    def _reload(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            self._app.reload(lambda: wanted)

    def _run(self) -> None:
        try:
            self._app.run(self._reload)
        except BaseException as error:  # noqa: BLE001 - the test's own thread hands it over
            self.failures.append(error)


def camera(name: str, **keys: Any) -> Any:
    return {"name": name, "uri": "synthetic://1?size=96x64", "fps": 8, **keys}


GOVERNOR = {"step_s": 1, "recover_s": 1, "min_fps": 4, "max_window_ms": 20}
AT_ONCE = {"temperature": {"hold_s": 0}, "clock": None}
CAMERAS = (camera("gate", priority=True), camera("door"), camera("yard", importance=1))

Make = Callable[..., Config]


@pytest.fixture
def make_config(tmp_path: Path, broker: Broker) -> Make:
    model = TinyDetector().save(tmp_path)

    def make(*cameras: Any, alerts: Any = AT_ONCE, governor: Any = GOVERNOR) -> Config:
        return Config.model_validate(
            {
                "device": {"id": "nx", "state_dir": tmp_path / "state"},
                "model": {"path": model},
                "cameras": cameras or CAMERAS,
                "mqtt": {"host": broker.host, "port": broker.port, "empty_frames": True},
                "health": {"interval_s": 1, "sample_s": 0.5, "probes": [], "alerts": alerts},
                "governor": governor,
            }
        )

    return make


@pytest.fixture
def start(tmp_path: Path, subscribe: Subscribe) -> Iterator[Callable[[Config], Site]]:
    sites: List[Site] = []

    def run(config: Config) -> Site:
        sites.append(Site(config, Module(tmp_path / "root"), subscribe("edge/#")))
        return sites[-1]

    yield run
    for site in sites:
        site.end()


ALL_STEPS = ["fps yard", "fps door", "window", "pause yard", "pause door"]


def test_a_hot_module_sheds_load_and_gets_it_back(
    start: Callable[[Config], Site], make_config: Make
) -> None:
    site = start(make_config())
    site.wait(lambda: site.last("health").get("infer_fps", 0) > 20, "three cameras")
    assert site.steps() == []
    assert site.last("health")["temp_cpu_c"] == COOL_C

    site.module.heat(HOT_C)
    site.wait(lambda: site.steps() == ALL_STEPS, "all steps")
    order = [len(message["steps"]) for message in site.said("governor")]
    assert order == list(range(len(ALL_STEPS) + 1))  # each was told by itself
    reasons = {step["reason"] for step in site.last("governor")["steps"]}
    assert reasons == {"the hottest sensor is at 86.0 °C, the target is 85 °C"}
    for name in ("yard", "door"):
        status = f"camera/{name}/status"
        site.wait(lambda at=status: site.last(at)["state"] == "disabled", "paused")  # type: ignore[misc]
        assert site.last(status)["reason"].startswith("paused by the governor: the hottest")
    site.wait(lambda: site.last("governor")["exhausted"], "that nothing is left")
    health = site.last("health")
    assert health["frames_dropped_governed_total"] > 0
    assert health["batch_window_ms"] == 20

    site.module.heat(HOTTER_C)
    site.wait(lambda: site.said("alert/temperature"), "the alert")
    alert = site.last("alert/temperature")
    assert (alert["severity"], alert["value"], alert["limit"]) == ("critical", HOTTER_C, 88.0)
    assert "cpu is at 89.0 °C" in alert["reason"]
    told = len(site.said("camera/gate/detections"))
    site.wait(lambda: len(site.said("camera/gate/detections")) > told + 16, "the priority camera")

    site.module.heat(COOL_C)
    site.wait(lambda: site.gateway.payloads("edge/nx/alert/temperature")[-1] == "", "its end")
    site.wait(lambda: site.last("governor")["steps"] == [], "that all is undone")
    change = site.last("governor")["change"]
    assert (change["action"], change["camera"], change["undone"]) == ("fps", "yard", True)
    site.wait(lambda: site.last("camera/yard/status")["state"] == "online", "yard")
    site.wait(lambda: site.last("health")["infer_fps"] > 20, "three cameras again")
    assert site.last("health")["batch_window_ms"] == 10
    assert site.last("health")["governor_changes_total"] == 2 * len(ALL_STEPS)
    assert validate(site.gateway.messages) > 100
    gate = site.gateway.on("edge/nx/camera/gate/status")
    assert {message.json()["state"] for message in gate} == {"starting", "online"}


def test_switched_off_it_lets_everything_go_at_once(
    start: Callable[[Config], Site], make_config: Make
) -> None:
    patient = {**GOVERNOR, "recover_s": 3600}
    site = start(make_config(governor=patient))
    site.wait(lambda: site.last("health").get("infer_fps", 0) > 20, "three cameras")
    site.module.heat(HOT_C)
    site.wait(lambda: len(site.steps()) >= 2, "two steps")
    site.reload(make_config(governor={**patient, "enabled": False}))
    site.wait(lambda: site.said("governor")[-1]["steps"] == [], "that all is undone")
    assert site.last("governor")["change"]["reason"] == "the governor is switched off"
    site.wait(lambda: site.last("health")["infer_fps"] > 20, "three cameras again")


def test_alerts_are_raised_cleared_and_switched_off(
    start: Callable[[Config], Site], make_config: Make
) -> None:
    away = {"name": "away", "uri": f"rtsp://127.0.0.1:{free_port()}/x"}
    alerts = {
        **AT_ONCE,
        "cameras": {"hold_s": 0},
        "disk": {"raise_below_mb": 9e7, "clear_above_mb": 1e8, "hold_s": 0},
    }
    site = start(make_config(camera("gate"), away, alerts=alerts))
    for leaf in ("alert/camera_away", "alert/disk"):
        site.wait(lambda at=leaf: site.said(at), leaf)  # type: ignore[misc]
    assert site.last("alert/camera_away")["reason"].startswith("camera away is offline: ")
    assert site.last("alert/disk")["limit"] == 9e7
    site.wait(lambda: site.last("health").get("alerts") == 2, "both in the health message")

    site.reload(make_config(camera("gate"), alerts={**alerts, "disk": None}))
    for leaf in ("alert/camera_away", "alert/disk"):
        topic = f"edge/nx/{leaf}"
        site.wait(lambda at=topic: site.gateway.payloads(at)[-1] == "", f"{leaf} is over")  # type: ignore[misc]
    site.wait(lambda: site.last("health")["alerts"] == 0, "none in the health message")
    assert validate(site.gateway.messages) > 10
