from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from edge.demo.screen import Screen, camera_table, plain_line, status_text
from edge.demo.summary import summary
from edge.records import EngineInfo, PipelineCounters
from tests.demo.results import pipeline_counters, publisher_counters

ENGINE = EngineInfo("onnxruntime", "1.19.2", "CPU", "fp32", 64)


def rendered(thing: object) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(thing)
    return out.getvalue()


def test_the_table_tells_rates_drops_and_reasons() -> None:
    text = rendered(camera_table(pipeline_counters()))
    belt = next(line for line in text.splitlines() if "belt" in line)
    for expected in ("online", "25.0", "22.5", "42", "10", "31", "58"):
        assert expected in belt
    dock = next(line for line in text.splitlines() if "dock" in line)
    assert "offline: no such file" in dock


def test_the_status_tells_engine_batches_and_broker() -> None:
    text = rendered(status_text(12.0, ENGINE, pipeline_counters(), publisher_counters()))
    for expected in ("onnxruntime 1.19.2 on CPU", "2.0 frames", "50%", "45 batches"):
        assert expected in text
    assert "127.0.0.1:1883 connected" in text
    assert "99 messages" in text
    assert "dropped: 10 superseded" in text
    assert "2 dropped" in text


def test_a_pipe_gets_lines_on_stderr_and_nothing_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Screen("mosquitto_sub -t 'edge/#'") as screen:
        for tenth in range(45):
            screen.show(tenth / 10, ENGINE, pipeline_counters(), publisher_counters())
    seen = capsys.readouterr()
    assert seen.out == ""
    lines = seen.err.splitlines()
    assert lines[0] == "subscribe with: mosquitto_sub -t 'edge/#'"
    assert len(lines) == 1 + 3  # at 0, 2 and 4 seconds
    assert "belt 22.5 fps" in lines[1]


def test_before_anything_ran_there_is_something_to_show() -> None:
    nothing = PipelineCounters.zero()
    assert "p50 - ms" in plain_line(0.0, nothing, publisher_counters())
    assert "starting" in rendered(status_text(0.0, None, nothing, publisher_counters()))


def test_the_summary_adds_up_and_is_json() -> None:
    result = json.loads(
        json.dumps(summary(10.0, ENGINE, pipeline_counters(), publisher_counters()))
    )
    assert result["frames"] == 100
    assert result["inferred"] == 90
    assert result["drops"] == {"superseded": 10}
    assert result["batches"] == 45
    assert result["published"] == 99
    assert result["unpublished"] == {"offline": 2}
    assert result["latency_ms"] == {"p50": 31.3, "p99": 58.0}
    assert result["batch_fill"] == 0.5
    assert result["cameras"]["dock"]["latency_ms_p50"] is None
