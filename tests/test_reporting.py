"""What the appliance says of itself, from a machine's files to a real broker and to Prometheus."""

from __future__ import annotations

import os
import re
import signal
import threading
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from edge.app import App, Substitutes
from edge.config.schema import Config
from edge.publish.metrics import METRIC_FAMILIES, METRICS
from edge.publish.schemas import all_schemas
from edge.threads import SupervisedThread
from tests.building.tiny_detectors import TinyDetector
from tests.conftest import StartService
from tests.health.probes import programs
from tests.health.probes.tegrastats_lines import XAVIER_NX_R35_ROOT
from tests.health.roots import LAPTOP, ORIN_NANO, XAVIER_NX, Files
from tests.health.sysfs_files import write_files
from tests.mosquitto import Broker, Subscriber, free_port
from tests.test_app import Overlapping

Serve = Callable[..., App]
Subscribe = Callable[..., Subscriber]

HEALTH = "edge/nx/health"
STATS = "edge/nx/camera/dock/stats"


@pytest.fixture
def serve(broker: Broker, root: Path, tmp_path: Path) -> Iterator[Serve]:
    """Runs the daemon on a machine whose files lie under `root`."""
    stop = threading.Event()
    deaths: List[BaseException] = []
    threads: List[SupervisedThread] = []

    def start(files: Files, **health: Any) -> App:
        write_files(root, files)
        config = Config.model_validate(
            {
                "device": {"id": "nx", "state_dir": tmp_path},
                "model": {"path": TinyDetector().save(tmp_path)},
                "cameras": [{"name": "dock", "uri": "synthetic://1?size=96x64"}],
                "mqtt": {"host": broker.host, "port": broker.port},
                "health": {"interval_s": 1, "sample_s": 0.5, **health},
            }
        )
        app = App(config, tmp_path, stop, substitutes=Substitutes(Overlapping(), root=root))
        threads.append(SupervisedThread("app", app.run, lambda name, error: deaths.append(error)))
        threads[-1].start()
        return app

    yield start
    stop.set()
    assert all(thread.join(60) for thread in threads)
    assert not deaths


def last(witness: Subscriber, topic: str = HEALTH) -> Dict[str, Any]:
    found = witness.on(topic)
    return dict(found[-1].json()) if found else {}


def test_health_comes_from_the_best_source_and_follows_the_machine(
    root: Path, serve: Serve, subscribe: Subscribe
) -> None:
    programs.write_program(root / "usr/bin/tegrastats", programs.SPEAKS, XAVIER_NX_R35_ROOT)
    witness = subscribe("edge/nx/#")
    serve(XAVIER_NX)
    witness.wait_for(lambda: last(witness).get("source") == "tegrastats", "tegrastats")
    message = last(witness)
    assert (message["temp_gpu_c"], message["vic_freq_mhz"], message["nvpmodel_id"]) == (
        45.5,
        115,
        2,
    )
    assert message["source_reason"].startswith("jtop: no ")
    assert message["health_age_ms"] >= 0
    schema = all_schemas()["edge.health/1"]
    assert not list(Draft202012Validator(schema).iter_errors(message))
    described = {*METRICS, *schema["properties"]}
    families = "|".join(METRIC_FAMILIES)
    assert {k for k in message if k not in described and not re.match(families, k)} <= {
        "governor_steps",
        "governor_changes_total",
        "alerts",
    }
    witness.wait_for(lambda: last(witness).get("latency_ms_p95"), "latencies")
    witness.wait_for(lambda: last(witness, STATS).get("latency_ms_p95"), "the camera's latencies")
    witness.wait_for(lambda: last(witness).get("mqtt_published_per_s"), "the rate of messages")

    programs.write_program(root / "usr/bin/tegrastats", "exit 1")
    # The next start of it fails; until then the one that runs goes on.
    kill_all_tegrastats(root)
    witness.wait_for(lambda: last(witness).get("source") == "sysfs", "the files instead")
    assert "tegrastats: it ended with code 1" in last(witness)["source_reason"]
    write_files(root, {"sys/class/thermal/thermal_zone1/temp": "88000\n"})
    witness.wait_for(lambda: last(witness).get("temp_gpu_c") == 88.0, "the new temperature")


def test_jtop_is_told_of_and_what_is_wrong_with_it(
    serve: Serve, subscribe: Subscribe, start_service: StartService
) -> None:
    service = start_service("--version", "4.3.2")
    witness = subscribe(HEALTH)
    serve(XAVIER_NX, probes=["jtop"])
    reason = "jtop: the service is version 4.3.2, the library here "
    witness.wait_for(lambda: reason in last(witness).get("source_reason", ""), "the mismatch")
    assert last(witness)["source"] == "sysfs"
    service.kill()
    start_service("--frozen-after", "12")
    witness.wait_for(lambda: last(witness).get("source") == "jtop", "jtop")
    assert last(witness)["nvdec_freq_mhz"] == 601.6
    assert "source_reason" not in last(witness)
    witness.wait_for(lambda: last(witness)["source"] == "sysfs", "that it stands still")
    assert "the same over and over" in last(witness)["source_reason"]


def kill_all_tegrastats(root: Path) -> None:
    """As the kernel does where memory runs out: that of `root`, and no other."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(root / "usr/bin/tegrastats").encode() in command:
            os.kill(int(process.name), signal.SIGKILL)


def test_another_machine_tells_what_it_can(serve: Serve, subscribe: Subscribe) -> None:
    witness = subscribe(HEALTH)
    serve(LAPTOP, probes=[])
    witness.wait_for(lambda: last(witness), "health")
    message = last(witness)
    assert message["source"] == "psutil"
    assert "source_reason" not in message
    assert message["temp_x86_pkg_c"] == 63


def test_prometheus_reads_the_same_numbers(serve: Serve, subscribe: Subscribe) -> None:
    witness, port = subscribe(HEALTH), free_port()
    serve(ORIN_NANO, probes=[], prometheus_port=port)
    witness.wait_for(lambda: len(witness.on(HEALTH)) >= 2, "health")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as said:
        families = list(text_string_to_metric_families(said.read().decode()))
    found = {sample.name: sample for family in families for sample in family.samples}
    assert found["edge_gpu_load_pct"].value == 63
    assert found["edge_power_total_mw"].value == 12480
    assert found["edge_camera_online"].labels == {"camera": "dock"}
    assert found["edge_appliance_info"].labels["source"] == "sysfs"
    assert found["edge_appliance_info"].labels["precision"] == "fp16"
    numbers = {k for k, v in last(witness).items() if isinstance(v, (int, float))}
    shown = {name[len("edge_") :] for name in found}
    causes = {key for key in numbers if key.startswith("frames_dropped_")}
    assert numbers - {"session", "seq", "ts_ms"} - causes <= shown


def test_a_port_that_is_taken_stops_nobody(
    broker: Broker, serve: Serve, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    witness = subscribe(HEALTH)
    serve(ORIN_NANO, probes=[], prometheus_port=broker.port)
    witness.wait_for(lambda: last(witness), "health")
    assert "health.prometheus_port: nothing can listen on 127.0.0.1" in caplog.text
