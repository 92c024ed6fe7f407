from __future__ import annotations

from typing import Iterable, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.stillness import Stillness

S = 1_000_000_000
STEP_S = 0.4


class Stream:
    """Feeds fingerprints; every new one is one that never was before."""

    def __init__(self, step_s: float = STEP_S) -> None:
        self.stillness = Stillness()
        self.now_s = 1000.0
        self._step_s = step_s
        self._next = 0

    def show(self, fingerprint: int) -> bool:
        self.now_s += self._step_s
        return self.stillness.observe(fingerprint, int(self.now_s * S))

    def new(self) -> int:
        self._next += 1
        return self._next

    def live(self, seconds: float) -> List[bool]:
        return [self.show(self.new()) for _ in range(round(seconds / self._step_s))]

    def still(self, seconds: float, states: Optional[Iterable[int]] = None) -> List[bool]:
        cycle = list(states or [self._next])
        count = round(seconds / self._step_s)
        return [self.show(cycle[number % len(cycle)]) for number in range(count)]

    def frozen_after_s(self, limit_s: float) -> Optional[float]:
        found = self.still(limit_s)
        return (found.index(True) + 1) * self._step_s if True in found else None


def test_a_live_sensor_is_never_frozen() -> None:
    assert not any(Stream().live(3600))


@pytest.mark.parametrize(
    ("step_s", "at_most_s"),
    [
        pytest.param(0.4, 4.4, id="30 a second"),
        pytest.param(0.5, 4.5, id="2 a second"),
        pytest.param(1.0, 5.0, id="1 a second"),
        pytest.param(10.0, 30.0, id="time-lapse: by the number of pictures"),
    ],
)
def test_a_lively_stream_that_freezes_is_found(step_s: float, at_most_s: float) -> None:
    stream = Stream(step_s)
    stream.live(20 * step_s)
    found_s = stream.frozen_after_s(100)
    assert found_s is not None
    assert 3.9 <= found_s <= at_most_s


def test_a_frozen_stream_that_comes_back_is_found_as_quickly_the_next_time() -> None:
    stream = Stream()
    for _ in range(3):
        assert not any(stream.live(10))
        found_s = stream.frozen_after_s(20)
        assert found_s is not None
        assert found_s <= 4.4


def test_a_short_pause_is_nothing() -> None:
    stream = Stream()
    for _ in range(50):
        stream.live(5)
        assert not any(stream.still(3.6))


def test_one_frozen_picture_that_is_encoded_again_and_again_is_found() -> None:
    stream = Stream()
    stream.live(10)
    key_frame_and_what_refines_it = [-1, -2, -3, -4, -5]
    found = stream.still(20, key_frame_and_what_refines_it)
    assert found.index(True) * STEP_S <= 5 * STEP_S + 4.4
    assert all(found[found.index(True) :])


def test_a_stream_that_stands_still_from_its_start_is_given_longer() -> None:
    stream = Stream()
    stream.show(stream.new())
    assert stream.frozen_after_s(60) == pytest.approx(30, abs=2 * STEP_S)


@pytest.mark.parametrize("key_frame_s", [2.0, 4.0, 10.0, 25.0])
@pytest.mark.parametrize("refined", [1, 2, 3])
def test_a_live_scene_of_skipped_blocks_is_not_frozen(key_frame_s: float, refined: int) -> None:
    stream = Stream()
    for _ in range(100):
        assert not any(stream.live(refined * STEP_S))
        assert not any(stream.still(key_frame_s - refined * STEP_S))


def test_who_was_wrong_once_is_patient_with_that_camera() -> None:
    stream = Stream()
    stream.live(60)  # somebody walks about, from the start
    wrong = [any(stream.still(9.6) + stream.live(STEP_S)) for _ in range(50)]
    assert wrong.count(True) == 1
    stream.live(60)
    found_s = stream.frozen_after_s(100)
    assert found_s == pytest.approx(20, abs=1)


def test_a_long_pause_does_not_blind_for_ever() -> None:
    stream = Stream()
    stream.live(10)
    stream.still(3600)
    stream.live(STEP_S)
    stream.still(1)
    assert stream.stillness.patience_ns == 120 * S


def test_a_new_stream_begins_without_the_past_but_with_the_habits() -> None:
    stream = Stream()
    stream.live(10)
    assert any(stream.still(10))
    stream.stillness.begin()
    assert not stream.show(stream._next)
    found_s = stream.frozen_after_s(20)
    assert found_s is not None
    assert found_s <= 4.4


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=30))
def test_frozen_means_nothing_new_for_the_patience(spells: List[Tuple[bool, int]]) -> None:
    stream = Stream()
    new_s = stream.now_s
    for is_live, count in spells:
        for _ in range(count):
            is_new = is_live or not stream._next
            is_frozen = stream.show(stream.new() if is_new else stream._next)
            if is_new:
                new_s = stream.now_s
                assert not is_frozen
            if is_frozen:
                assert stream.now_s - new_s >= 4.0 - 1e-6
            assert stream.stillness.patience_ns >= 4 * S
