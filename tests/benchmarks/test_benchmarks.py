"""That the benchmarks run and say what they promise; what they measure is not judged here."""

from __future__ import annotations

import importlib.util

import pytest

from tests.benchmarks.commands import run, run_quickly

KEYS = {
    "preprocess": ["edge_ms", "floor_ms", "numpy_recipe_ms", "letterbox_over_floor"],
    "overhead": [
        "cpu_ms_per_frame",
        "close_over_bare_wait",
        "close_over_bare_wait_p50",
        "close_over_bare_wait_p99",
        "close_to_publish_over_floor",
        "close_to_publish_over_floor_batch1",
        "chunked_over_batch1",
        "rss_growth_mb",
    ],
    "health": ["health_pct", "watch_pct_sysfs", "count_us_per_frame", "tell_ms", "scrape_ms"],
    "publish": [
        "latency_over_paho_qos0",
        "latency_over_paho_qos1",
        "latency_ms_p50_mosquitto_pub_qos0",
        "per_s_edge_qos0",
        "per_s_edge_qos1",
        "throughput_over_paho_qos0",
        "throughput_over_paho_qos1",
    ],
    "quantization": [
        "calibration_minmax_s",
        "int8_over_fp32_throughput",
        "int8_over_fp32_throughput_batch1",
        "int8_over_fp32_throughput_batch8",
    ],
}
BARS = {
    "preprocess": {},
    "overhead": {
        "cpu_ms_per_frame": "<= 3",
        "close_over_bare_wait": "<= 1.5",
        "close_to_publish_over_floor": "<= 1.5",
        "chunked_over_batch1": "> 1",
        "rss_growth_mb": "<= 5",
    },
    "health": {"health_pct": "<= 1"},
    "publish": {"latency_over_paho_qos0": "<= 1.5", "latency_over_paho_qos1": "<= 1.5"},
    "quantization": {"int8_over_fp32_throughput": "> 1"},
}
PEER_BARS = {"letterbox_over_ultralytics": "<= 0.2", "max_grey_level_difference": "<= 1"}


@pytest.mark.parametrize("benchmark", KEYS)
def test_json_has_the_figures_and_how_they_were_measured(benchmark: str) -> None:
    result = run_quickly(benchmark)
    assert {key: type(result.get(key)) for key in KEYS[benchmark]} == dict.fromkeys(
        KEYS[benchmark], float
    )
    assert result["benchmark"] == benchmark
    assert result["quick"] is True
    assert result["command"] == f"python -m benchmarks.{benchmark} --quick --json"
    assert result["device"]
    assert {"edge", "python", "numpy", "opencv"} <= set(result["versions"])
    has_peer = benchmark == "preprocess" and importlib.util.find_spec("ultralytics") is not None
    bars = {**BARS[benchmark], **(PEER_BARS if has_peer else {})}
    if benchmark == "quantization" and importlib.util.find_spec("pycocotools") is not None:
        bars["map50_95_int8_over_fp32"] = ">= 0.99"
    assert {key: entry["bar"] for key, entry in result["bars"].items()} == bars
    assert {entry["verdict"] for entry in result["bars"].values()} <= {"PASS", "MISS"}


@pytest.mark.skipif(
    importlib.util.find_spec("ultralytics") is not None, reason="the peer is installed"
)
def test_an_absent_peer_is_said_and_has_no_figure() -> None:
    ended = run(["benchmarks/preprocess.py", "--quick"])  # as a file, for people
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("preprocess on ")
    assert "ultralytics_ms" not in ended.stdout
    assert "pip install ultralytics" in ended.stdout
