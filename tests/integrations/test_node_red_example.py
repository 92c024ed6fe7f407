"""The flow of docs/mqtt in a real Node-RED, between an appliance and the plant."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from edge.publish.publisher import Publisher
from edge.records import CameraState
from tests.contract import rule_for
from tests.integrations.conftest import EXAMPLES
from tests.mosquitto import Broker, Subscriber, free_port, wait_for
from tests.publish import samples

# `make node-red` puts it there.
LOCAL = EXAMPLES.parent.parent / ".node-red" / "node_modules" / ".bin" / "node-red"

MakeAppliance = Callable[..., Publisher]


def flow() -> List[Dict[str, Any]]:
    nodes: List[Dict[str, Any]] = json.loads((EXAMPLES / "node-red-flow.json").read_text())
    return nodes


def test_it_listens_to_topics_of_the_contract_and_is_wired() -> None:
    names = {node["id"] for node in flow()}
    heard = [node["topic"] for node in flow() if node["type"] == "mqtt in"]
    assert {getattr(rule_for(topic.replace("+", "x")), "name", "none") for topic in heard} == {
        "camera_detections",
        "availability",
        "camera_status",
    }
    for node in flow():
        assert {target for wire in node.get("wires", []) for target in wire} <= names
        assert node.get("broker", "edge-broker") in names | {"localhost"}


class NodeRed:
    """One process with the flow, at the test's broker."""

    def __init__(self, executable: str, folder: Path, broker: Broker) -> None:
        nodes = flow()
        for node in nodes:
            if node["type"] == "mqtt-broker":
                node.update(broker=broker.host, port=str(broker.port))
        (folder / "flows.json").write_text(json.dumps(nodes))
        settings = f"module.exports = {{uiHost: '127.0.0.1', uiPort: {free_port()}}};\n"
        (folder / "settings.js").write_text(settings)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [executable, "--userDir", str(folder), "--settings", str(folder / "settings.js"),
                 "flows.json"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


@pytest.fixture
def node_red(tmp_path: Path, broker: Broker) -> Iterator[NodeRed]:
    executable = shutil.which("node-red") or (str(LOCAL) if LOCAL.exists() else None)
    if executable is None:
        pytest.skip("Node-RED is not installed: make node-red")
    folder = tmp_path / "node-red"
    folder.mkdir()
    running = NodeRed(executable, folder, broker)
    yield running
    running.close()


def test_the_plant_hears_of_people_and_of_what_is_gone(
    broker: Broker, node_red: NodeRed, make_appliance: MakeAppliance
) -> None:
    wait_for(
        lambda: f"Connected to broker: mqtt://{broker.host}:{broker.port}" in node_red.log,
        "Node-RED to connect",
        timeout_s=90,
    )
    plant = Subscriber(broker, "plant/#")
    try:
        publisher = make_appliance("nx", host=broker.host, port=broker.port)
        plant.wait_for(lambda: plant.on("plant/nx/alarm"), "the appliance to be seen")
        assert plant.payloads("plant/nx/alarm") == [""]
        people = samples.detections(class_ids=(0,))
        publisher.publish_detections(samples.frame_result())  # a car
        publisher.publish_detections(samples.frame_result(people))
        topic = "plant/nx/dock1/people"
        plant.wait_for(lambda: plant.on(topic), f"people; Node-RED says {node_red.log}")
        assert [message.json()["count"] for message in plant.on(topic)] == [1]
        publisher.publish_camera_status(samples.camera_status(CameraState.OFFLINE, "no route"))
        plant.wait_for(
            lambda: "no route" in plant.payloads("plant/nx/dock1/alarm"), "the camera's alarm"
        )
        publisher.stop(deadline_s=10)
        plant.wait_for(
            lambda: plant.payloads("plant/nx/alarm")[-1] == "appliance is gone", "its alarm"
        )
    finally:
        plant.close()
