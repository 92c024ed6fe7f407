"""What `edge run` keeps for a broker that is away."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List

from edge.demo.show import ASSETS
from tests.e2e.daemon import Edge, write_config
from tests.mosquitto import Broker, Subscriber, wait_for

TABLE = {"name": "table", "uri": str(ASSETS / "table.mp4"), "fps": 10}
DETECTIONS = "edge/nx/camera/table/detections"

StartEdge = Callable[..., Edge]
Subscribe = Callable[..., Subscriber]


def bodies(subscriber: Subscriber) -> List[Dict[str, Any]]:
    return [message.json() for message in subscriber.on(DETECTIONS)]


def test_detections_outlive_the_broker_and_the_daemon(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    outbox = {"detections": True, "detections_commit_s": 0.05}
    config = write_config(tmp_path, broker, [TABLE], outbox=outbox)
    broker.stop()
    first = edge("run", "-c", config)
    path = tmp_path / "state" / "outbox.db"
    wait_for(lambda: path.exists() and path.stat().st_size > 20_000, "kept detections", 60)
    first.signal(signal.SIGKILL)
    first.wait()
    broker.start()
    witness = subscribe("edge/#")
    second = edge("run", "-c", config)
    witness.wait_for(
        lambda: any(not body["replayed"] for body in bodies(witness)), "live detections", 60
    )
    second.signal(signal.SIGTERM)
    assert second.wait() == 0, second.stderr
    told = bodies(witness)
    old = [body for body in told if body["session"] == 1]
    assert len(old) > 10
    assert all(body["replayed"] for body in old)
    # No number is missing, and none came twice: the broker was never lost with one under way.
    assert [body["seq"] for body in old] == list(range(1, len(old) + 1))
    live = [body for body in told if body["session"] == 2]
    assert told == old + live
    assert [body["seq"] for body in live] == list(range(1, len(live) + 1))
    assert all(older["ts_ms"] <= newer["ts_ms"] for older, newer in zip(told, told[1:]))


def test_an_outbox_that_fails_degrades_and_stops_no_frame(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    (tmp_path / "state" / "outbox.db").mkdir(parents=True)
    witness = subscribe("edge/#")
    daemon = edge("run", "-c", write_config(tmp_path, broker, [TABLE], outbox={"detections": True}))
    witness.wait_for(lambda: len(bodies(witness)) > 10, "detections", 60)

    def told() -> List[Dict[str, Any]]:
        return [json.loads(text) for text in witness.payloads("edge/nx/outbox")]

    witness.wait_for(told, "the outbox's trouble")
    assert told()[-1]["trouble"] == "Is a directory; check the disk"
    state = json.loads(witness.payloads("edge/nx/state")[-1])
    assert state["state"] == "degraded"
    assert "outbox: Is a directory; check the disk; it keeps messages in memory" in state["reason"]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.stderr
    assert "keeping messages in memory" in daemon.stderr
