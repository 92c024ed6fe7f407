"""SIGHUP to a real `edge run`: the file is edited while a gateway listens."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from tests.e2e.daemon import Edge, write_config
from tests.e2e.test_run import detections, states, validate
from tests.mosquitto import Broker, Subscriber, wait_for

StartEdge = Callable[..., Edge]
Subscribe = Callable[..., Subscriber]

BELT = {"name": "belt", "uri": "synthetic://1?size=160x120", "fps": 4}
DOCK = {"name": "dock", "uri": "synthetic://2?size=160x120", "fps": 4}


class Site:
    """A daemon, its file, and the gateway that hears it."""

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        gateway: Subscriber,
        edge: StartEdge,
        *cameras: Any,
        **sections: Any,
    ) -> None:
        self._folder = folder
        self._broker = broker
        self.gateway = gateway
        self.daemon = edge("run", "-c", self.write(*cameras, **sections))

    def write(self, *cameras: Dict[str, Any], **sections: Any) -> Path:
        return write_config(self._folder, self._broker, list(cameras), **sections)

    def reload(self, *cameras: Dict[str, Any], **sections: Any) -> None:
        self.write(*cameras, **sections)
        self.daemon.signal(signal.SIGHUP)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        self.gateway.wait_for(condition, f"{what}; it says {self.daemon.stderr}")

    def wait_for_detections(self, camera: str, count: int = 3) -> None:
        before = len(detections(self.gateway, camera))
        self.wait(lambda: len(detections(self.gateway, camera)) >= before + count, camera)

    def last(self, leaf: str) -> Any:
        messages = self.gateway.on(f"edge/nx/{leaf}")
        return messages[-1].json() if messages else {}

    def wait_for_reason(self, text: str) -> None:
        self.wait(lambda: text in self.last("state").get("reason", ""), f"the reason {text}")

    def end(self) -> None:
        self.daemon.signal(signal.SIGTERM)
        assert self.daemon.wait() == 0, self.daemon.stderr
        assert "Traceback" not in self.daemon.stderr
        self.wait(lambda: self.gateway.payloads("edge/nx/availability")[-1:] == ["offline"], "end")
        assert validate(self.gateway.messages) > 5


@pytest.fixture
def start(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> Callable[..., Site]:
    return lambda *cameras: Site(tmp_path, broker, subscribe("edge/#"), edge, *cameras)


def ids(site: Site, camera: str) -> List[int]:
    return [message["frame_id"] for message in detections(site.gateway, camera)]


def assert_gapless(site: Site, camera: str) -> None:
    told = ids(site, camera)
    assert told == list(range(len(told)))


def test_cameras_come_go_and_change_beside_one_that_does_not_notice(
    start: Callable[..., Site],
) -> None:
    site = start(BELT)
    site.wait_for_detections("belt")

    site.reload(BELT, DOCK)
    site.wait_for_detections("dock")
    assert site.last("info")["cameras"] == ["belt", "dock"]
    assert site.last("info")["engine"]["backend"] == "onnxruntime"

    site.reload(BELT, {**DOCK, "priority": True})
    site.wait(lambda: detections(site.gateway, "dock")[-1]["batch"]["lane"] == "priority", "lane")
    dock = ids(site, "dock")
    assert dock == sorted(set(dock))  # one reader, in order over the change of lanes

    site.reload(BELT, {**DOCK, "enabled": False})
    site.wait(lambda: site.last("camera/dock/status")["state"] == "disabled", "disabled")
    assert site.last("camera/dock/status")["reason"] == ""

    site.reload(BELT, {**DOCK, "fps": 5})
    site.wait_for_detections("dock")
    site.reload(BELT)
    status = "edge/nx/camera/dock/status"
    site.wait(lambda: site.gateway.payloads(status)[-1] == "", "its topics to be cleared")
    site.wait(
        lambda: site.gateway.payloads("edge/nx/camera/dock/count/all")[-1] == "", "its count too"
    )
    site.wait(lambda: site.last("info")["cameras"] == ["belt"], "info without it")
    site.wait(lambda: site.last("health")["cameras"] == 1, "health without it")
    told = len(site.gateway.on("edge/nx/camera/dock/stats"))
    site.wait_for_detections("belt", 8)
    # At most the one that was on its way.
    assert len(site.gateway.on("edge/nx/camera/dock/stats")) <= told + 1
    site.end()
    assert_gapless(site, "belt")
    assert site.gateway.on("edge/nx/camera/belt/status")[-1].json()["state"] == "online"
    changed = [line for line in site.daemon.stderr.splitlines() if "read again" in line]
    words = ["added dock", "changed dock", "changed dock", "changed dock", "removed dock"]
    assert [line.split("read again: ")[1] for line in changed] == words


def test_a_file_that_is_wrong_changes_nothing(start: Callable[..., Site], tmp_path: Path) -> None:
    site = start(BELT)
    site.wait_for_detections("belt")

    site.reload({**BELT, "fps": -1}, {**DOCK, "nonsense": 1}, mqtt={"port": 0})
    site.wait_for_reason("new configuration refused: ")
    for fault in ("cameras[0].fps: ", "cameras[1].nonsense: "):
        assert any(f"{tmp_path}/config.yaml:" in line and fault in line for line in log(site))
    assert "and 2 more" in site.last("state")["reason"]

    (tmp_path / "config.yaml").write_text("cameras: [")
    site.daemon.signal(signal.SIGHUP)
    wait_for(lambda: len(refusals(site)) == 2, "the second refusal")
    (tmp_path / "config.yaml").unlink()
    site.daemon.signal(signal.SIGHUP)
    wait_for(lambda: len(refusals(site)) == 3, "the third refusal")
    site.reload(BELT, DOCK, postprocess={"classes": ["unicorn"]})
    wait_for(lambda: len(refusals(site)) == 4, "the fourth refusal")
    site.wait_for_reason("unicorn")
    site.wait_for_detections("belt")
    assert detections(site.gateway, "dock") == []
    assert set(states(site.gateway)) <= {"init", "building", "ready"}

    site.reload(BELT)
    site.wait(lambda: site.last("state")["reason"] == "", "nothing left to explain")
    site.end()
    assert_gapless(site, "belt")


def log(site: Site) -> List[str]:
    return site.daemon.stderr.splitlines()


def refusals(site: Site) -> List[str]:
    return [line for line in log(site) if "the configuration is not changed" in line]


def test_what_needs_a_restart_is_named_and_the_rest_holds(start: Callable[..., Site]) -> None:
    site = start(BELT)
    site.wait_for_detections("belt")
    site.reload(
        BELT,
        DOCK,
        engine={"threads": 1},
        batching={"target": 3, "max_wait_ms": 4},
        health={"interval_s": 2},
    )
    site.wait_for_reason("a restart is needed for engine.threads, batching.target")
    site.wait_for_detections("dock")
    assert any(
        "needs a restart, and stays as it was: engine.threads, batching.target" in line
        for line in log(site)
    )
    expected = "added dock; set batching.max_wait_ms, health.interval_s"
    assert any(line.endswith(f"read again: {expected}") for line in log(site))
    site.wait(lambda: site.last("health").get("batch_window_ms") == 4, "the new window")
    site.reload(BELT, DOCK, batching={"max_wait_ms": 4})
    site.wait(lambda: site.last("state")["reason"] == "", "nothing left to restart for")
    site.end()
    assert_gapless(site, "belt")


@pytest.mark.parametrize("delay_ms", [400, 700, 1000, 1400])
def test_hangups_at_any_moment_do_no_harm(start: Callable[..., Site], delay_ms: int) -> None:
    site = start(BELT)
    time.sleep(delay_ms / 1000)
    for _ in range(3):
        site.daemon.signal(signal.SIGHUP)
    time.sleep(0.5)
    if site.daemon.process.poll() is not None:
        # Before Python itself is up the signal has its default effect; that is no fault of ours.
        assert site.daemon.wait() == -signal.SIGHUP
        assert site.daemon.stderr == ""
        return
    site.wait_for_detections("belt")
    for _ in range(20):
        site.daemon.signal(signal.SIGHUP)
    site.wait_for_detections("belt")
    site.daemon.signal(signal.SIGTERM)
    for _ in range(20):
        if site.daemon.process.poll() is None:
            site.daemon.signal(signal.SIGHUP)
    assert site.daemon.wait() == 0, site.daemon.stderr
    assert "Traceback" not in site.daemon.stderr
    assert_gapless(site, "belt")
