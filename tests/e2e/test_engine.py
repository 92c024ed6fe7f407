"""`edge run` that makes a better engine while it serves, as a gateway sees it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from itertools import groupby
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from edge.demo.show import ASSETS
from tests.building.test_build_process import children_of
from tests.e2e.daemon import Edge, write_config
from tests.e2e.test_run import detections, states, validate
from tests.mosquitto import Broker, Subscriber

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = {"name": "table", "uri": str(ASSETS / "table.mp4"), "fps": 10}
IMAGES = 30
# A build on a loaded machine.
PATIENCE_S = 45.0

StartEdge = Callable[..., Edge]
Subscribe = Callable[..., Subscriber]
Step = Tuple[str, Optional[str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((REPOSITORY / "calibration").glob("*.jpg"))[:IMAGES]:
        shutil.copy(path, folder)
    return folder


def write(folder: Path, broker: Broker, images: Path) -> Path:
    return write_config(
        folder,
        broker,
        [TABLE],
        engine={"backend": "onnxruntime", "threads": 1},
        calibration={"folder": str(images), "method": "minmax", "holdout": 0.25},
        gate={"min_boxes": 10, "max_loss": 0.2},
    )


def told(subscriber: Subscriber) -> List[Dict[str, Any]]:
    return [message.json() for message in subscriber.on("edge/nx/engine")]


def steps(subscriber: Subscriber) -> List[Step]:
    """What serves and what goes on, each once in a row."""
    return [step for step, _ in groupby((m["state"], m.get("serving")) for m in told(subscriber))]


def session_of(subscriber: Subscriber) -> int:
    return int(told(subscriber)[-1]["session"])


def precisions(subscriber: Subscriber, session: int) -> List[str]:
    """The precision of every detections message of a session, each once in a row."""
    messages = (m for m in detections(subscriber, "table") if m["session"] == session)
    return [precision for precision, _ in groupby(m["precision"] for m in messages)]


def await_frames(subscriber: Subscriber, precision: str, count: int) -> None:
    """Waits until so many more frames were told of."""
    wanted = count + len(detections(subscriber, "table"))
    subscriber.wait_for(
        lambda: (
            len(detections(subscriber, "table")) >= wanted
            and detections(subscriber, "table")[-1]["precision"] == precision
        ),
        f"{count} frames in {precision}",
        PATIENCE_S,
    )


def end(daemon: Edge) -> None:
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, daemon.stderr
    assert "Traceback" not in daemon.stderr


def test_int8_takes_over_while_frames_flow_and_serves_at_once_after_a_restart(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge, images: Path
) -> None:
    subscriber = subscribe("edge/#")
    config = write(tmp_path, broker, images)
    daemon = edge("run", "-c", config)
    subscriber.wait_for(
        lambda: ("serving", "int8") in steps(subscriber), "int8 to serve", PATIENCE_S
    )
    await_frames(subscriber, "int8", 10)
    late = subscribe("edge/nx/#")
    late.wait_for(lambda: late.on("edge/nx/info") and told(late), "what is retained")
    assert late.on("edge/nx/engine")[0].retain
    assert (told(late)[0]["state"], told(late)[0]["serving"]) == ("serving", "int8")
    assert late.on("edge/nx/info")[0].json()["engine"]["precision"] == "int8"
    end(daemon)

    # Of a retained topic the newest counts: where the machine is busy, ("serving", "fp32") may be
    # overtaken by what it begins next.
    story = [("loading", None), ("improving", "fp32"), ("serving", "int8")]
    assert [step for step in steps(subscriber) if step != ("serving", "fp32")] == story
    last = told(subscriber)[-1]
    assert last["cache"] == {"int8": "none was built yet", "fp32": "hit"}
    assert (last["gate"]["precision"], last["gate"]["verdict"]) == ("int8", "pass")
    assert (last["wanted"], last["message"]) == ("int8", "")
    phases = [build["phase"] for build in (m.get("build") for m in told(subscriber)) if build]
    assert [phase for phase, _ in groupby(phases)] == ["judging", "calibrating", "judging"]
    first = session_of(subscriber)
    assert precisions(subscriber, first) == ["fp32", "int8"]
    assert validate(subscriber.messages) > 20

    daemon = edge("run", "-c", config)
    subscriber.wait_for(lambda: session_of(subscriber) != first, "the next session")
    await_frames(subscriber, "int8", 10)
    end(daemon)
    second = session_of(subscriber)
    assert precisions(subscriber, second) == ["int8"]
    of_second = [m for m in told(subscriber) if m["session"] == second]
    assert {(m["state"], m.get("serving")) for m in of_second} == {
        ("loading", None),
        ("serving", "int8"),
    }
    assert of_second[-1]["cache"] == {"int8": "hit"}
    assert not any(m.get("build") for m in of_second)
    for session in (first, second):
        seqs = [m["seq"] for m in detections(subscriber, "table") if m["session"] == session]
        assert seqs == list(range(1, len(seqs) + 1))


def building(subscriber: Subscriber, daemon: Edge) -> int:
    """Waits for a build to be under way; the worker's process id."""
    subscriber.wait_for(
        lambda: told(subscriber) and told(subscriber)[-1].get("build"), "a build", PATIENCE_S
    )
    workers = children_of(daemon.process.pid)
    assert len(workers) == 1
    return workers[0]


def test_a_build_that_is_killed_or_stopped_spoils_nothing(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge, images: Path
) -> None:
    subscriber = subscribe("edge/#")
    config = write(tmp_path, broker, images)
    daemon = edge("run", "-c", config)
    os.kill(building(subscriber, daemon), signal.SIGKILL)
    subscriber.wait_for(lambda: told(subscriber)[-1]["message"], "what went wrong")
    await_frames(subscriber, "fp32", 10)
    last = told(subscriber)[-1]
    assert (last["state"], last["serving"], "build" in last) == ("serving", "fp32", False)
    assert "the build was killed, most likely because memory ran out" in last["message"]
    assert states(subscriber)[-1] == "ready"
    assert daemon.process.poll() is None
    end(daemon)

    first = session_of(subscriber)
    daemon = edge("run", "-c", config)
    subscriber.wait_for(lambda: session_of(subscriber) != first, "the next session")
    worker = building(subscriber, daemon)
    end(daemon)
    assert not Path(f"/proc/{worker}").exists()
    assert told(subscriber)[-1]["message"] == ""
    assert precisions(subscriber, first) == ["fp32"]
    assert not list((tmp_path / "state").rglob("*.engine"))
    assert validate(subscriber.messages) > 20


def test_a_process_that_was_stopped_for_a_while_does_not_blame_the_device(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> None:
    # More frames than the engine takes: there is always a batch in it.
    cameras = [
        {"name": name, "uri": f"synthetic://{seed}?size=320x240", "fps": 60}
        for seed, name in enumerate(("table", "belt"))
    ]
    engine = {"backend": "onnxruntime", "threads": 1, "stall_s": 5}
    config = write_config(tmp_path, broker, cameras, engine=engine)
    subscriber = subscribe("edge/#")
    daemon = edge("run", "-c", config)
    await_frames(subscriber, "fp32", 5)
    daemon.signal(signal.SIGSTOP)
    time.sleep(8.0)
    daemon.signal(signal.SIGCONT)
    await_frames(subscriber, "fp32", 20)
    end(daemon)
    assert "hangs" not in daemon.stderr
