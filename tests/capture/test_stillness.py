from __future__ import annotations

from typing import Iterable, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.stillness import Stillness

S = 1_000_000_000
STEP_S = 0.4
HOUR_S = 3600.0
# A picture is sampled at these steps: within one of them nobody can tell.
TOLERANCE_S = 2 * STEP_S


class Stream:
    """Feeds fingerprints; every new one is one that never was before."""

    def __init__(self, step_s: float = STEP_S) -> None:
        self.stillness = Stillness()
        self.now_s = 1000.0
        self._step_s = step_s
        self._next = 0

    def show(self, fingerprint: int, flickers: Optional[bool] = False) -> bool:
        self.now_s += self._step_s
        return self.stillness.observe(fingerprint, flickers, self.now_ns)

    @property
    def now_ns(self) -> int:
        return int(self.now_s * S)

    @property
    def patience_s(self) -> float:
        return self.stillness.patience_ns(self.now_ns) / S

    def new(self) -> int:
        self._next += 1
        return self._next

    def _live(self, seconds: float, flickers: Optional[bool]) -> List[bool]:
        return [self.show(self.new(), flickers) for _ in range(round(seconds / self._step_s))]

    def noise(self, seconds: float) -> List[bool]:
        """A sensor's noise comes through, everywhere."""
        return self._live(seconds, True)

    def motion(self, seconds: float) -> List[bool]:
        """All of the picture moves."""
        return self._live(seconds, None)

    def blocks(self, seconds: float) -> List[bool]:
        """Here and there something changes, as an encoder of few bits sends it."""
        return self._live(seconds, False)

    def still(self, seconds: float, states: Optional[Iterable[int]] = None) -> List[bool]:
        cycle = list(states or [self._next])
        count = round(seconds / self._step_s)
        return [self.show(cycle[number % len(cycle)]) for number in range(count)]

    def frozen_after_s(self, limit_s: float) -> Optional[float]:
        found = self.still(limit_s)
        return (found.index(True) + 1) * self._step_s if True in found else None

    def rest_with_key_frames(self, every_s: float, seconds: float, refined: int = 1) -> List[bool]:
        """A live sensor behind an encoder that skips all blocks between its key frames."""
        found: List[bool] = []
        for _ in range(round(seconds / every_s)):
            found += self.noise(STEP_S) + self.blocks((refined - 1) * STEP_S)
            found += self.still(every_s - refined * STEP_S)
        return found


def test_a_live_sensor_is_never_frozen() -> None:
    stream = Stream()
    assert not any(stream.noise(HOUR_S) + stream.motion(HOUR_S) + stream.blocks(HOUR_S))


@pytest.mark.parametrize(
    ("step_s", "at_most_s"),
    [
        pytest.param(0.4, 4.4, id="30 a second"),
        pytest.param(0.5, 4.5, id="2 a second"),
        pytest.param(1.0, 5.0, id="1 a second"),
        pytest.param(10.0, 30.0, id="time-lapse: by the number of pictures"),
    ],
)
def test_a_noisy_stream_that_freezes_is_found(step_s: float, at_most_s: float) -> None:
    stream = Stream(step_s)
    stream.noise(25 * step_s)
    found_s = stream.frozen_after_s(100)
    assert found_s is not None
    assert 3.9 <= found_s <= at_most_s


@pytest.mark.parametrize(
    ("samples", "patience_s"), [(24, 300.0), (25, 4.0)], ids=["not yet", "just"]
)
def test_noise_is_proof_after_10_s(samples: int, patience_s: float) -> None:
    stream = Stream()
    stream.noise(samples * STEP_S)
    assert stream.patience_s == patience_s


def test_motion_neither_proves_nor_disproves_noise() -> None:
    stream = Stream()
    stream.motion(HOUR_S)
    assert stream.patience_s == 300
    for _ in range(5):
        stream.noise(2)
        stream.motion(60)
    assert stream.patience_s == 4


@pytest.mark.parametrize(
    ("samples", "patience_s"), [(24, 4.0), (25, 300.0)], ids=["some", "lasting"]
)
def test_noise_that_comes_through_in_parts_only_is_no_proof_any_more(
    samples: int, patience_s: float
) -> None:
    """At dusk, say: long before the encoder skips all of it."""
    stream = Stream()
    stream.noise(60)
    stream.blocks(samples * STEP_S)
    assert stream.patience_s == patience_s


def test_a_frozen_stream_that_comes_back_is_found_as_quickly_the_next_time() -> None:
    stream = Stream()
    for _ in range(3):
        assert not any(stream.noise(20))
        found_s = stream.frozen_after_s(20)
        assert found_s is not None
        assert found_s <= 4.4


def test_a_short_pause_is_nothing() -> None:
    stream = Stream()
    for _ in range(50):
        stream.noise(15)
        assert not any(stream.still(3.6))


def test_one_frozen_picture_that_is_encoded_again_and_again_is_found() -> None:
    stream = Stream()
    stream.noise(10)
    key_frame_and_what_refines_it = [-1, -2, -3, -4]
    found = stream.still(20, key_frame_and_what_refines_it)
    assert found.index(True) * STEP_S <= 4 * STEP_S + 4.4
    assert all(found[found.index(True) :])


@pytest.mark.parametrize("before_s", [0.0, 60.0], ids=["from its start", "after motion"])
def test_a_stream_that_has_shown_no_noise_is_given_5_minutes(before_s: float) -> None:
    stream = Stream()
    stream.show(stream.new(), None)
    stream.motion(before_s)
    assert stream.frozen_after_s(400) == pytest.approx(300, abs=TOLERANCE_S)


@pytest.mark.parametrize("key_frame_s", [2.0, 4.0, 10.0, 25.0, 60.0, 240.0])
@pytest.mark.parametrize("refined", [1, 2, 3])
def test_a_live_scene_of_skipped_blocks_is_not_frozen(key_frame_s: float, refined: int) -> None:
    assert not any(Stream().rest_with_key_frames(key_frame_s, 3 * HOUR_S, refined))


@pytest.mark.parametrize("usual_s", [1.2, 2.0, 10.0])
def test_key_frames_that_get_rare_when_nothing_moves_are_no_freeze(usual_s: float) -> None:
    stream = Stream()
    for every_s in (usual_s, 20.0, 60.0, 250.0):
        assert not any(stream.rest_with_key_frames(every_s, 1000))


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_key_frames_alone_prove_no_noise(repeats: int) -> None:
    """Each of them is new, and everywhere."""
    stream = Stream()
    for _ in range(100):
        stream.noise(STEP_S)
        stream.still(repeats * STEP_S)
    assert stream.patience_s == 300


def test_who_was_wrong_once_is_not_wrong_again() -> None:
    """Of a sudden, and for longer than 4 s, nothing of the noise comes through."""
    stream = Stream()
    stream.noise(60)
    wrong = [any(stream.rest_with_key_frames(10.0, 10)) for _ in range(50)]
    assert wrong == [True] + [False] * 49
    assert not any(stream.noise(HOUR_S) + stream.rest_with_key_frames(10.0, HOUR_S))


def test_a_belt_that_stops_is_not_frozen() -> None:
    stream = Stream()
    for _ in range(20):
        assert not any(stream.motion(300) + stream.rest_with_key_frames(50.0, 1000))


def test_days_and_nights_of_a_live_camera_are_never_frozen() -> None:
    """By day its noise comes through; at dusk less and less; at night key frames are rare."""
    stream = Stream()
    for _ in range(4):
        assert not any(stream.noise(HOUR_S))
        assert not any(stream.blocks(60) + stream.rest_with_key_frames(5.0, 300))
        assert not any(stream.rest_with_key_frames(100.0, 2 * HOUR_S))
        assert not any(stream.blocks(60))


def test_pauses_are_remembered_for_a_day_and_a_half_and_not_for_ever() -> None:
    stream = Stream()
    stream.rest_with_key_frames(50.0, 1000)
    stream.noise(60)
    assert stream.patience_s == 300
    stream.now_s += 35 * HOUR_S
    assert stream.patience_s == 300
    stream.now_s += 2 * HOUR_S
    assert stream.patience_s == 4


def test_a_new_stream_must_prove_its_noise_again() -> None:
    stream = Stream()
    stream.noise(20)
    assert any(stream.still(10))
    stream.stillness.begin()
    assert not any(stream.still(60))
    stream.noise(11)
    found_s = stream.frozen_after_s(20)
    assert found_s is not None
    assert found_s <= 4.4


def test_a_new_stream_pauses_as_the_one_before() -> None:
    stream = Stream()
    stream.rest_with_key_frames(10.0, 60)
    stream.stillness.begin()
    stream.noise(60)
    assert stream.patience_s == 300


@given(
    st.lists(
        st.tuples(st.sampled_from([True, False, None, "still"]), st.integers(1, 30)), max_size=30
    )
)
def test_frozen_means_nothing_new_for_the_patience(
    spells: List[Tuple[object, int]],
) -> None:
    stream = Stream()
    new_s = stream.now_s
    for kind, count in spells:
        for _ in range(count):
            is_new = kind != "still" or not stream._next
            flickers = kind if isinstance(kind, bool) else None
            is_frozen = stream.show(stream.new() if is_new else stream._next, flickers)
            if is_new:
                new_s = stream.now_s
                assert not is_frozen
            if is_frozen:
                assert stream.now_s - new_s >= 4.0 - 1e-6
            assert stream.patience_s >= 4
