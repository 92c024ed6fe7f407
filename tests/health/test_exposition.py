from __future__ import annotations

import socket
import urllib.error
import urllib.request
from typing import Dict, Iterator, List

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.errors import ProbeError
from edge.health.exposition import Exposition

WORDS = {"temp_gpu_c": "Degrees.", "frames_read_total": "Frames that the cameras delivered."}
DEVICE = {"temp_gpu_c": 45.5, "frames_dropped_total": 7, "frames_dropped_stale_total": 5}
CAMERAS = {
    "dock": {"read_fps": 30.0, "frames_read_total": 90, "frames_dropped_stale_total": 1},
    "gate": {"read_fps": 15.0, "frames_read_total": 45},
}
FACTS = {"version": "1.2.3", "source": "jtop", "engine_device": 'a "card"\n'}


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    opened = Exposition(WORDS)
    opened.start("127.0.0.1", 0)
    yield opened
    assert opened.stop(30)


def read(exposition: Exposition) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{exposition.port}/metrics", timeout=30) as said:
        return str(said.read().decode())


def samples(text: str) -> Dict[str, List[object]]:
    """Labels and values by name, as Prometheus itself reads them."""
    found: Dict[str, List[object]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_prometheus_reads_all_of_it(exposition: Exposition) -> None:
    exposition.show(DEVICE, CAMERAS, FACTS)
    text = read(exposition)
    assert samples(text) == {
        "edge_temp_gpu_c": [({}, 45.5)],
        "edge_frames_dropped_total": [({}, 7)],
        "edge_frames_dropped_by_cause_total": [({"cause": "stale"}, 5)],
        "edge_camera_read_fps": [({"camera": "dock"}, 30), ({"camera": "gate"}, 15)],
        "edge_camera_frames_read_total": [({"camera": "dock"}, 90), ({"camera": "gate"}, 45)],
        "edge_camera_frames_dropped_by_cause_total": [({"camera": "dock", "cause": "stale"}, 1)],
        "edge_appliance_info": [(FACTS, 1)],
    }
    assert "# TYPE edge_temp_gpu_c gauge" in text
    assert "# HELP edge_temp_gpu_c Degrees." in text
    assert "# TYPE edge_camera_frames_read_total counter" in text


def test_before_anything_is_known_there_is_nothing(exposition: Exposition) -> None:
    assert read(exposition).strip() == ""


def test_what_is_shown_last_counts(exposition: Exposition) -> None:
    exposition.show(DEVICE, CAMERAS, FACTS)
    exposition.show({"temp_gpu_c": 50.0}, {}, {})
    assert samples(read(exposition)) == {
        "edge_temp_gpu_c": [({}, 50)],
        "edge_appliance_info": [({}, 1)],
    }


def test_a_key_of_another_language_becomes_a_name(exposition: Exposition) -> None:
    exposition.show({"temp_außen-1_c": 3.0}, {}, {})
    assert "edge_temp_au_en_1_c" in samples(read(exposition))


def test_a_port_that_is_taken_is_told(exposition: Exposition) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProbeError, match=rf"prometheus_port: .*127\.0\.0\.1:{port}: .*in use"):
            Exposition(WORDS).start("127.0.0.1", port)


def test_nobody_answers_after_the_stop() -> None:
    exposition = Exposition(WORDS)
    assert exposition.stop(30)  # before it was started
    exposition.start("127.0.0.1", 0)
    port = exposition.port
    assert exposition.stop(30)
    assert exposition.port is None
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30)
