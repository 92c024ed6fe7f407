"""`edge bench` as a process, and `edge run` on what it chose."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from tests.e2e.daemon import Edge
from tests.mosquitto import Broker, Subscriber, wait_for
from tests.test_bench import bench, write


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_measured_so_far(
    number: signal.Signals, tmp_path: Path, edge: Callable[..., Edge]
) -> None:
    # Each size takes its share of an hour: only the first can be under way.
    process = edge("bench", "-c", write(tmp_path), "--tune", "--seconds", 3600)
    assert process.process.stdout is not None
    lines = iter(process.process.stdout.readline, "")
    assert any(line.startswith("measuring for about 3600 s") for line in lines)
    process.signal(number)
    assert process.wait() == 0, process.stderr
    assert "interrupted: no choice is made" in process.stdout()
    assert process.stderr == ""
    assert not (tmp_path / "state").exists()


def test_the_daemon_uses_the_choice(
    tmp_path: Path,
    broker: Broker,
    subscribe: Callable[..., Subscriber],
    edge: Callable[..., Edge],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write(tmp_path, mqtt={"host": broker.host, "port": broker.port})
    assert bench(config, "--tune") == 0
    path = tmp_path / "state/tuning.json"
    # A number that is neither the default nor likely to be measured.
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "target": 5}))
    assert "edge run" in capsys.readouterr().out
    subscriber = subscribe("edge/nx/info")

    def batchings() -> List[Dict[str, Any]]:
        infos = [message.json() for message in subscriber.messages]
        return [info["batching"] for info in infos if "batching" in info]

    daemon = edge("run", "-c", config)
    wait_for(batchings, "what the daemon is made of")
    assert batchings() == [{"target": 5, "target_source": "bench"}]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.stderr
    assert "a batch is full at 5 frames (bench)" in daemon.stderr
    assert "WARNING" not in daemon.stderr
