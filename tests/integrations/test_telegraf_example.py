"""The Telegraf configuration of docs/mqtt, against the contract and in a real Telegraf."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, List

import pytest

from edge.publish.publisher import Publisher
from tests.contract import rule_for
from tests.integrations.conftest import EXAMPLES
from tests.mosquitto import Broker, wait_for
from tests.publish import samples

TEXT = (EXAMPLES / "telegraf.conf").read_text()

MakeAppliance = Callable[..., Publisher]


def strings(key: str) -> List[str]:
    """The strings of every line that sets `key`."""
    lines = re.findall(rf"^\s*{key} = (.+)$", TEXT, re.MULTILINE)
    return [text for line in lines for text in re.findall(r'"([^"]*)"', line)]


def test_its_topics_are_those_of_the_contract() -> None:
    named = [
        getattr(rule_for(topic.replace("+", "x")), "name", "none") for topic in strings("topics")
    ]
    assert named == ["health", "camera_stats"]
    parsed = zip(strings("topic"), strings("tags"), strings("measurement"))
    for topic, tags, measurement in parsed:
        assert topic in strings("topics")
        depth = topic.count("/")
        assert (tags.count("/"), measurement.count("/")) == (depth, depth)
        # A level that names a tag is one that varies.
        varying = [level == "+" for level in topic.split("/")][1:]
        assert [tag != "_" for tag in tags.split("/")][1:] == varying


def test_it_collects(tmp_path: Path, broker: Broker, make_appliance: MakeAppliance) -> None:
    telegraf = shutil.which("telegraf")
    if telegraf is None:
        pytest.skip("Telegraf is not installed: https://docs.influxdata.com/telegraf")
    text = TEXT.split("[[outputs.influxdb_v2]]")[0]
    text = text.replace("ssl://broker.example:8883", f"tcp://{broker.host}:{broker.port}")
    text = re.sub(r"^\s*(username|password|tls_ca) = .*$", "", text, flags=re.MULTILINE)
    written = tmp_path / "metrics"
    output = f'[[outputs.file]]\n  files = ["{written}"]\n  data_format = "influx"\n'
    (tmp_path / "telegraf.conf").write_text(f'[agent]\n  flush_interval = "1s"\n{text}{output}')
    process = subprocess.Popen([telegraf, "--config", str(tmp_path / "telegraf.conf")])
    try:
        publisher = make_appliance("nx", host=broker.host, port=broker.port)
        wait_for(lambda: "telegraf-edge" in broker.log, "Telegraf to connect", timeout_s=60)

        def collected() -> bool:
            publisher.publish_health(samples.machine_reading({"cpu_load_pct": 12.5}))
            publisher.publish_camera_stats(samples.camera_counters())
            return written.exists() and written.read_text().count("camera=dock1") > 0

        wait_for(collected, "metrics", timeout_s=60)
        metrics = written.read_text()
        assert re.search(r"^health,.*device=nx.* .*cpu_load_pct=12.5", metrics, re.MULTILINE)
        assert re.search(r"^stats,.*camera=dock1.* .*fps_read=29.97", metrics, re.MULTILINE)
    finally:
        process.kill()
        process.wait(30)
