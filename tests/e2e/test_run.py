"""`edge run` with a real broker, real clips, the bundled model and real signals."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from edge.demo.show import ASSETS
from tests.contract import check_contract
from tests.e2e.daemon import Edge, write_config
from tests.e2e.scoring import load_truth, score
from tests.mosquitto import Broker, Received, Subscriber, wait_for

BELT = {"name": "belt", "uri": str(ASSETS / "belt.mp4")}
TABLE = {"name": "table", "uri": str(ASSETS / "table.mp4")}

StartEdge = Callable[..., Edge]
Subscribe = Callable[..., Subscriber]


def detections(subscriber: Subscriber, camera: str) -> List[Dict[str, Any]]:
    return [message.json() for message in subscriber.on(f"edge/nx/camera/{camera}/detections")]


def _await_detections(subscriber: Subscriber, count: int) -> None:
    subscriber.wait_for(lambda: len(detections(subscriber, "table")) >= count, "detections")


def states(subscriber: Subscriber) -> List[str]:
    return [json.loads(payload)["state"] for payload in subscriber.payloads("edge/nx/state")]


def validate(messages: List[Received]) -> int:
    """Every message keeps the contract; returns how many there were."""
    return check_contract(messages)


@pytest.mark.timeout(300)
def test_what_arrives_is_what_the_clips_show(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    subscriber = subscribe("edge/#")
    config = write_config(
        tmp_path,
        broker,
        [BELT, TABLE],
        postprocess={"score_threshold": 0.45},
    )
    daemon = edge("run", "-c", config)
    truths = {name: load_truth(name) for name in ("belt", "table")}
    # Long enough for both clips' busy and empty stretches, however slow the machine.
    subscriber.wait_for(
        lambda: all(len(detections(subscriber, name)) >= 150 for name in truths),
        "150 frames of each clip",
        timeout_s=240,
    )
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.stderr
    for name, truth in truths.items():
        messages = detections(subscriber, name)
        result = score(messages, truth)
        assert result.true_positives >= 50, (name, result)
        assert result.precision >= 0.95, (name, result)
        assert result.recall >= 0.90, (name, result)
        ids = [message["frame_id"] for message in messages]
        assert ids == sorted(set(ids))
    assert validate(subscriber.messages) > 300
    for name in truths:  # nothing was lost on this broker, so no number is missing
        numbers = [message["seq"] for message in detections(subscriber, name)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_life_of_a_session_as_a_gateway_sees_it(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    subscriber = subscribe("edge/#")
    missing = {"name": "gone", "uri": "no-such-file.mp4"}
    off = {**TABLE, "enabled": False}
    daemon = edge("run", "-c", write_config(tmp_path, broker, [BELT, missing, off]))
    subscriber.wait_for(lambda: "degraded" in states(subscriber), "state degraded")
    subscriber.wait_for(lambda: subscriber.on("edge/nx/health"), "health")
    subscriber.wait_for(lambda: subscriber.on("edge/nx/camera/belt/stats"), "stats")
    late = subscribe("edge/#")
    late.wait_for(lambda: late.on("edge/nx/info"), "the retained info")
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0, daemon.stderr

    subscriber.wait_for(
        lambda: subscriber.payloads("edge/nx/availability") == ["online", "offline"], "the end"
    )
    assert states(subscriber)[0] in ("init", "building")
    assert states(subscriber)[-1] == "stopping"
    trouble = [json.loads(text) for text in subscriber.payloads("edge/nx/state")]
    reason = next(state["reason"] for state in trouble if state["state"] == "degraded")
    assert "camera gone offline" in reason
    assert "no-such-file.mp4" in reason
    status = {
        name: subscriber.on(f"edge/nx/camera/{name}/status")[-1].json()
        for name in ("belt", "gone", "table")
    }
    assert status["gone"]["state"] == "offline"
    assert status["table"]["state"] == "disabled"
    info = late.on("edge/nx/info")[0].json()
    assert info["cameras"] == ["belt", "gone", "table"]
    assert len(info["model"]["class_names"]) >= 6
    assert info["engine"]["backend"] == "onnxruntime"
    assert validate(subscriber.messages) > 5
    # Nothing is promised that is not so: after the end a late comer sees `offline`.
    after = subscribe("edge/nx/availability")
    after.wait_for(lambda: after.messages, "the retained availability")
    assert after.messages[0].payload == "offline"


def test_a_camera_whose_file_appears_comes_online(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    subscriber = subscribe("edge/#")
    camera = {"name": "late", "uri": "late.mp4"}
    edge("run", "-c", write_config(tmp_path, broker, [camera]))
    subscriber.wait_for(lambda: "degraded" in states(subscriber), "state degraded")
    (tmp_path / "late.mp4").write_bytes((ASSETS / "table.mp4").read_bytes())
    subscriber.wait_for(lambda: detections(subscriber, "late"), "detections")
    subscriber.wait_for(lambda: states(subscriber)[-1] == "ready", "state ready")


def test_a_broker_that_appears_later_is_found(
    tmp_path: Path, broker: Broker, edge: StartEdge
) -> None:
    broker.stop()
    daemon = edge("run", "-c", write_config(tmp_path, broker, [TABLE]))
    wait_for(lambda: "ready" in daemon.stderr, "the daemon to run without a broker")
    broker.start()
    subscriber = Subscriber(broker, "edge/#")
    try:
        subscriber.wait_for(lambda: detections(subscriber, "table"), "detections")
        assert subscriber.payloads("edge/nx/availability")[-1] == "online"
        assert subscriber.on("edge/nx/info")
    finally:
        subscriber.close()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.stderr


def test_a_broker_that_is_killed_and_comes_back_gets_everything_retained_again(
    tmp_path: Path, broker: Broker, edge: StartEdge
) -> None:
    daemon = edge("run", "-c", write_config(tmp_path, broker, [TABLE]))
    for _ in range(2):
        subscriber = Subscriber(broker, "edge/#")
        _await_detections(subscriber, 3)
        subscriber.close()
        broker.kill()
        time.sleep(0.5)  # a moment in which frames find no broker
        broker.start()
    subscriber = Subscriber(broker, "edge/#")
    try:
        retained = {f"edge/nx/{leaf}" for leaf in ("availability", "state", "info")}
        retained.add("edge/nx/camera/table/status")
        subscriber.wait_for(
            lambda: retained <= {message.topic for message in subscriber.messages},
            "everything retained",
        )
        subscriber.wait_for(
            lambda: any(
                message.json()["mqtt_dropped_total"] > 0
                for message in subscriber.on("edge/nx/health")
            ),
            "the lost messages counted in health",
        )
    finally:
        subscriber.close()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay_ms", [150, 300, 500, 700, 900, 1200, 1600])
def test_a_signal_at_any_moment_of_start_up_ends_it_cleanly(
    tmp_path: Path, broker: Broker, edge: StartEdge, number: signal.Signals, delay_ms: int
) -> None:
    daemon = edge("run", "-c", write_config(tmp_path, broker, [BELT, TABLE]))
    time.sleep(delay_ms / 1000)
    daemon.signal(number)
    code = daemon.wait()
    # Before Python itself is up the signal has its default effect; that is no fault of ours.
    assert code in (0, -number) or "KeyboardInterrupt" in daemon.stderr, daemon.stderr
    if code == 0:
        assert "Traceback" not in daemon.stderr


def test_a_start_that_fails_is_told_to_the_gateway(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    config = write_config(tmp_path, broker, [BELT], model={"path": "none.onnx"})
    daemon = edge("run", "-c", config)
    assert daemon.wait() == 78
    late = subscribe("edge/#")
    late.wait_for(lambda: states(late), "the retained state")
    state = late.on("edge/nx/state")[-1].json()
    assert state["state"] == "stopping"
    assert "none.onnx" in state["reason"]
    late.wait_for(lambda: late.payloads("edge/nx/availability") == ["offline"], "offline")


def test_a_camera_that_hangs_in_its_driver_spoils_no_shutdown(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    os.mkfifo(tmp_path / "stuck.mp4")  # opening it waits for a writer that never comes
    subscriber = subscribe("edge/#")
    stuck = {"name": "stuck", "uri": "stuck.mp4", "stall_s": 0.5}
    daemon = edge("run", "-c", write_config(tmp_path, broker, [TABLE, stuck]))
    subscriber.wait_for(lambda: detections(subscriber, "table"), "detections")
    subscriber.wait_for(lambda: "degraded" in states(subscriber), "the stall to be told")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.stderr
    subscriber.wait_for(
        lambda: subscriber.payloads("edge/nx/availability") == ["online", "offline"], "the end"
    )
    assert states(subscriber)[-1] == "stopping"
    assert "cameras: not everything could be ended" in daemon.stderr
    assert "publisher" not in daemon.stderr.split("state stopping")[1]


def test_sigkill_leaves_offline_behind(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    subscriber = subscribe("edge/#")
    daemon = edge("run", "-c", write_config(tmp_path, broker, [TABLE]))
    subscriber.wait_for(lambda: detections(subscriber, "table"), "detections")
    daemon.signal(signal.SIGKILL)
    subscriber.wait_for(
        lambda: subscriber.payloads("edge/nx/availability") == ["online", "offline"], "the will"
    )
    # The next session counts one further.
    sessions = {message["session"] for message in detections(subscriber, "table")}
    edge("run", "-c", tmp_path / "config.yaml")
    subscriber.wait_for(
        lambda: (
            {message["session"] for message in detections(subscriber, "table")}
            == {min(sessions), min(sessions) + 1}
        ),
        "the next session",
    )
