from __future__ import annotations

from typing import Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.publish.counts import CountBoard, count_level


def board(*expected: str) -> CountBoard:
    made = CountBoard()
    made.expect(expected)
    made.deliver("a")
    return made


@pytest.mark.parametrize(
    ("name", "level"),
    [
        pytest.param("person", "person", id="plain"),
        pytest.param("traffic light", "traffic_light", id="space"),
        pytest.param("n/a", "n_a", id="a level of its own"),
        pytest.param("c++ #1", "c____1", id="wildcards"),
        pytest.param("Schraube groß", "Schraube_groß", id="letters of any language"),
        pytest.param("v1.2-b", "v1.2-b", id="dots and dashes"),
        pytest.param("all", "all_", id="not the sum"),
        pytest.param("", "_", id="no name"),
    ],
)
def test_level(name: str, level: str) -> None:
    assert count_level(name) == level


def test_only_what_changes_is_news() -> None:
    counts = board()
    assert counts.news("a", ["car", "car", "person"]) == {"all": 3, "car": 2, "person": 1}
    assert counts.news("a", ["person", "car", "car"]) == {}
    assert counts.news("a", ["car"]) == {"all": 1, "car": 1, "person": 0}
    assert counts.news("a", []) == {"all": 0, "car": 0}
    assert counts.news("a", []) == {}


def test_expected_classes_are_told_before_any_is_seen() -> None:
    assert board("person", "traffic light").news("a", []) == {
        "all": 0,
        "person": 0,
        "traffic_light": 0,
    }
    assert board().news("a", []) == {"all": 0}


def test_classes_that_share_a_level_are_summed() -> None:
    assert board().news("a", ["traffic light", "traffic_light"]) == {"all": 2, "traffic_light": 2}


def test_a_class_named_all_does_not_become_the_sum() -> None:
    assert board().news("a", ["all", "b"]) == {"all": 2, "all_": 1, "b": 1}


def test_a_camera_that_delivers_nothing_counts_nothing() -> None:
    counts = board()
    counts.news("a", ["car"])
    assert sorted(counts.forget("a")) == ["all", "car"]
    assert counts.news("a", ["car"]) == {}  # a late result of its last frames
    assert counts.forget("a") == []
    counts.deliver("a")
    assert counts.news("a", []) == {"all": 0}


def test_cameras_count_for_themselves() -> None:
    counts = board()
    counts.deliver("b")
    counts.news("a", ["car"])
    assert counts.news("b", []) == {"all": 0}
    assert counts.news("a", ["car"]) == {}


@given(st.lists(st.lists(st.sampled_from(["a", "b", "all", "x y"]), max_size=6), max_size=8))
def test_what_was_told_is_always_what_the_last_frame_shows(frames: List[List[str]]) -> None:
    counts = board("b")
    told: Dict[str, int] = {}
    for frame in frames:
        news = counts.news("a", frame)
        assert all(told.get(level) != count for level, count in news.items())
        told.update(news)
        assert told["all"] == len(frame)
        shown = {level: count for level, count in told.items() if count and level != "all"}
        assert shown == {count_level(name): frame.count(name) for name in set(frame)}
