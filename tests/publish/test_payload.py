from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from edge import records
from edge.health.host import HostSampler
from edge.health.report import health
from edge.health.sensors import Sensors
from edge.publish import payload
from edge.publish.envelope import Payload
from edge.publish.metrics import METRIC_FAMILIES, METRICS
from edge.publish.payload import Appliance, ApplianceState, HostPart
from edge.publish.schemas import all_schemas
from edge.records import (
    BatchSetting,
    HealthSource,
    MachineReading,
    Percentiles,
    PipelineCounters,
    PublisherCounters,
)
from tests.health.sysfs_files import XAVIER_NX, write_files
from tests.publish import samples

SCHEMAS = all_schemas()


def faults(message: Dict[str, Any]) -> List[str]:
    validator = Draft202012Validator(SCHEMAS[message["schema"]])
    return [error.message for error in validator.iter_errors(message)]


def sent(model: Payload) -> Dict[str, Any]:
    message: Dict[str, Any] = json.loads(model.to_json(), parse_constant=pytest.fail)
    assert faults(message) == []
    return message


def detections(found: records.Detections) -> Dict[str, Any]:
    return sent(
        payload.detections_payload(
            samples.frame_result(found), samples.HEADER, samples.MODEL, is_clock_synced=True
        )
    )


def test_detections() -> None:
    assert detections(samples.detections()) == {
        "schema": "edge.detections/1",
        "device": "nx-0421",
        "session": 17,
        "seq": 48211,
        "ts": "2026-11-22T12:50:30.123Z",
        "ts_ms": 1_795_351_830_123,
        "camera": "dock1",
        "frame_id": 90317,
        "ts_source": "receive",
        "clock_synced": True,
        "latency_ms": {"capture_to_batch": 9.0, "infer": 18.0, "post": 4.0, "total": 31.0},
        "batch": {"id": 7, "size": 6, "lane": "batch", "align_error_ms": 2.0},
        "model": "yolov8n",
        "precision": "fp16",
        "frame": {"w": 1920, "h": 1080},
        "replayed": False,
        "detections": [
            {"class": "car", "class_id": 1, "score": 0.8735, "box": [0.25, 0.25, 0.5, 1.0]}
        ],
    }


def test_a_frame_alone_has_no_alignment_error() -> None:
    result = samples.frame_result(samples.detections())
    alone = replace(result, batch=replace(result.batch, size=1, align_error_ns=0))
    message = sent(
        payload.detections_payload(alone, samples.HEADER, samples.MODEL, is_clock_synced=True)
    )
    assert message["batch"] == {"id": 7, "size": 1, "lane": "batch"}


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    found = detections(samples.detections(class_ids=(2,)))["detections"]
    assert (found[0]["class"], found[0]["class_id"]) == ("2", 2)


def test_an_empty_frame() -> None:
    assert detections(records.Detections.empty())["detections"] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(-0.01, 0.0, id="left of the frame"),
        pytest.param(0.0, 0.0, id="left edge"),
        pytest.param(1920.0, 1.0, id="right edge"),
        pytest.param(1920.1, 1.0, id="right of the frame"),
        pytest.param(math.nan, 0.0, id="not a number"),
        pytest.param(math.inf, 1.0, id="infinite"),
        pytest.param(-math.inf, 0.0, id="minus infinite"),
    ],
)
def test_boxes_are_clipped_to_the_frame(value: float, expected: float) -> None:
    found = detections(samples.detections(boxes_xyxy=[(value, 0, 1920, 1080)]))["detections"]
    assert found[0]["box"] == [expected, 0.0, 1.0, 1.0]


def test_a_pixel_of_a_4k_frame_survives() -> None:
    one = samples.detections(boxes_xyxy=[(1000 / 2, 0, 1001 / 2, 1080)])
    box = detections(one)["detections"][0]["box"]
    assert [round(box[0] * 3840), round(box[2] * 3840)] == [1000, 1001]


FLOAT32 = st.floats(width=32)


@given(
    rows=st.lists(
        st.tuples(st.tuples(FLOAT32, FLOAT32, FLOAT32, FLOAT32), FLOAT32, st.integers(0, 100)),
        max_size=20,
    )
)
def test_whatever_the_network_says_the_message_is_valid(rows: list[Any]) -> None:
    found = samples.detections(
        [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    )
    objects = detections(found)["detections"]
    assert [item["class_id"] for item in objects] == [row[2] for row in rows]
    assert all(0 <= edge <= 1 for item in objects for edge in item["box"])


@given(
    box=st.lists(st.floats(0, 1080, width=32), min_size=4, max_size=4),
    score=st.floats(0, 1, width=32),
)
def test_rounding_is_all_that_is_lost(box: list[float], score: float) -> None:
    item = detections(samples.detections([box], [score], [0]))["detections"][0]
    np.testing.assert_allclose(item["box"] * np.array([1920, 1080] * 2), box, atol=0.011)
    assert item["score"] == pytest.approx(score, abs=6e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"seq": -1}, "less than the minimum", id="negative seq"),
        pytest.param({"extra": 1}, "unexpected", id="unknown key"),
        pytest.param({"schema": "edge.detections/1", "ts_source": "sun"}, "sun", id="enum"),
        pytest.param({"detections": [{"class": "a"}]}, "required property", id="half an object"),
        pytest.param(
            {"detections": [{"class": "a", "class_id": 0, "score": 1.01, "box": [0, 0, 1, 1]}]},
            "greater than the maximum",
            id="score above 1",
        ),
        pytest.param(
            {"detections": [{"class": "a", "class_id": 0, "score": 1, "box": [0, 0, 1, 1.01]}]},
            "greater than the maximum",
            id="box outside the frame",
        ),
        pytest.param(
            {"detections": [{"class": "a", "class_id": 0, "score": 1, "box": [0, 0, 1]}]},
            "too short",
            id="box of three",
        ),
        pytest.param({"batch": None}, "not of type", id="null"),
    ],
)
def test_the_schema_rejects_broken_detections(change: Dict[str, Any], complaint: str) -> None:
    broken = {**detections(samples.detections()), **change}
    assert any(complaint in fault for fault in faults(broken)), faults(broken)


def test_the_schema_rejects_a_missing_header() -> None:
    broken = detections(samples.detections())
    del broken["session"]
    assert faults(broken) == ["'session' is a required property"]


@pytest.mark.parametrize("state", list(ApplianceState))
def test_state(state: ApplianceState) -> None:
    message = sent(payload.state_payload(state, "because", samples.HEADER))
    assert (message["state"], message["reason"]) == (state.value, "because")
    assert message["ts_ms"] == samples.HEADER.unix_ms


def test_info() -> None:
    message = sent(payload.info_payload(samples.appliance(), samples.HEADER))
    assert message["host"] == {
        "app_version": "0.1.0",
        "python": "3.8.18",
        "platform": "Linux aarch64",
    }
    assert message["cameras"] == ["dock1", "gate"]
    assert message["model"] == {
        "name": "yolov8n",
        "sha256": "ab" * 32,
        "head": "v8",
        "input": {"w": 640, "h": 480},
        "class_names": ["person", "car"],
        "max_candidates": 1024,
    }
    assert message["engine"] == {
        "backend": "onnxruntime",
        "version": "1.19.2",
        "device": "CPU",
        "precision": "fp32",
        "max_batch": 64,
    }
    assert message["batching"] == {"target": 4, "target_source": "bench"}


def test_info_before_the_model_is_loaded() -> None:
    host = HostPart(app_version="0.1.0", python="3.8.18", platform="Linux", l4t="35.4.1")
    message = sent(payload.info_payload(Appliance(host, ["dock1"]), samples.HEADER))
    assert message["host"]["l4t"] == "35.4.1"
    assert not {"model", "engine", "batching"} & set(message)


def test_health_leaves_out_what_is_unknown() -> None:
    readings = {"temp_gpu_c": 61.5, "uptime_s": 12, "fan_pct": math.nan, "gpu_load_pct": math.inf}
    message = sent(payload.health_payload(samples.machine_reading(readings), samples.HEADER))
    assert (message["temp_gpu_c"], message["uptime_s"]) == (61.5, 12)
    assert message["source"] == "psutil"
    assert "source_reason" not in message
    assert not {"fan_pct", "gpu_load_pct"} & set(message)


def test_health_readings_cannot_forge_the_header() -> None:
    reading = samples.machine_reading({"seq": 1.0, "source": 2.0})
    message = sent(payload.health_payload(reading, samples.HEADER))
    assert (message["seq"], message["source"]) == (samples.HEADER.seq, "psutil")


def test_health_says_why_no_better_source_tells_it() -> None:
    reading = MachineReading(HealthSource.SYSFS, {}, "jtop: no /run/jtop.sock")
    message = sent(payload.health_payload(reading, samples.HEADER))
    assert (message["source"], message["source_reason"]) == ("sysfs", "jtop: no /run/jtop.sock")


def test_every_number_of_the_daemons_health_is_described(tmp_path: Path) -> None:
    known = Percentiles(1.0, 1.0, 1.0)
    counters = replace(
        PipelineCounters.zero(),
        latency_ms_p50=1.0,
        latency_ms_p95=1.0,
        latency_ms_p99=1.0,
        infer_ms_p50=1.0,
        infer_ms_p95=1.0,
        infer_ms_p99=1.0,
        capture_to_batch_ms=known,
        post_ms=known,
        batching=BatchSetting(8, 10.0),
        tuned=BatchSetting(8, 10.0),
    )
    publisher = PublisherCounters(True, "gw:1883", 1, 0, {"offline": 1})
    host = HostSampler(tmp_path)
    host.sample()
    sensors = Sensors(write_files(tmp_path, XAVIER_NX))
    sensors.read()
    numbers = health(counters, publisher, {**sensors.read(), **host.sample()})
    families = "|".join(METRIC_FAMILIES)
    undescribed = {key for key in numbers if key not in METRICS and not re.match(families, key)}
    assert undescribed == set()


def test_the_health_schema_wants_numbers() -> None:
    message = sent(payload.health_payload(samples.machine_reading({}), samples.HEADER))
    for key in ("temp_gpu_c", "batch_fill", "fan_pct"):
        assert set(faults({**message, key: "OFF"})) == {"'OFF' is not of type 'number'"}


def test_payloads_cannot_be_changed() -> None:
    state = payload.state_payload(ApplianceState.READY, "", samples.HEADER)
    with pytest.raises(ValidationError, match="frozen"):
        state.seq = 5  # type: ignore[misc]  # the very thing that is tested
