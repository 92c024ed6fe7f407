from __future__ import annotations

import pytest

from edge.batching.policy import BatchPolicy, Decision, Placement, Rider
from edge.batching.tuner import Tuner
from edge.batching.tuning import LiveTuning
from edge.clock import NS_PER_MS, NS_PER_S
from edge.config.schema import BatchingConfig
from edge.records import BatchSetting

STEP_NS = NS_PER_S // 4


class Plant:
    """A policy under tuning, and an engine whose time the test sets."""

    def __init__(self) -> None:
        self.policy = BatchPolicy(BatchingConfig(target=16, max_wait_ms=20, tune=True))
        self.tuning = LiveTuning(self.policy, Tuner(self.policy.setting))
        self.base_ms = 6.0
        self.now_ns = 0
        self._arrived = 0.0
        self._busy_ns = 0.0

    def play(self, seconds: float, arrival_fps: float, busy: float) -> BatchSetting:
        """Cameras at this rate and an engine busy for this share of the time."""
        for _ in range(int(seconds * NS_PER_S / STEP_NS)):
            self.now_ns += STEP_NS
            self._arrived += arrival_fps * STEP_NS / NS_PER_S
            self._busy_ns += busy * STEP_NS
            for size in (1, 4):
                self.tuning.batch_done(size, self.base_ms + 2.2 * size)
            self.tuning.observe(self.now_ns, int(self._arrived), int(self._busy_ns))
        return self.tuning.setting


def test_it_starts_at_the_bounds() -> None:
    plant = Plant()
    assert plant.tuning.setting == BatchSetting(16, 20.0)
    assert plant.tuning.changes == 0


def test_a_light_load_makes_batches_small_and_a_step_of_load_large_again() -> None:
    plant = Plant()
    assert plant.play(10, arrival_fps=20, busy=0.2) == BatchSetting(1, 0.0)
    light = plant.tuning.changes
    heavy = plant.play(10, arrival_fps=600, busy=1.0)
    assert heavy.target > 10
    assert plant.tuning.changes > light
    # The load stays: so does the setting.
    changes = plant.tuning.changes
    assert plant.play(60, arrival_fps=600, busy=1.0) == heavy
    assert plant.tuning.changes == changes


def test_an_engine_that_becomes_slower_is_noticed() -> None:
    plant = Plant()
    before = plant.play(15, arrival_fps=60, busy=0.5)
    plant.base_ms = 30.0  # throttled
    after = plant.play(15, arrival_fps=60, busy=0.9)
    assert after.target > before.target


@pytest.mark.parametrize("slower", [1.0, 1.25, 2.0])
def test_a_slower_engine_does_not_make_batches_look_better(slower: float) -> None:
    """Only single frames are seen after it became slower; batches gain 13 % at most."""
    policy = BatchPolicy(BatchingConfig(target=16, max_wait_ms=100, tune=True))
    policy.apply(BatchSetting(4, 46.2))
    tuning = LiveTuning(policy, Tuner(BatchSetting(16, 100.0)))
    widest = 0
    for tick in range(1, 1200):
        for size in (1, 16) if tick < 40 else (1, 1):
            infer_ms = {1: 20.0, 16: 282.0}[size] * (slower if tick >= 40 else 1.0)
            tuning.batch_done(size, infer_ms)
        tuning.observe(tick * STEP_NS, int(tick * 65 / 4), int(0.94 * tick * STEP_NS))
        if tick > 80:
            widest = max(widest, tuning.setting.target)
    assert widest == 4


def test_the_engines_share_is_never_above_all(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant()
    with caplog.at_level("INFO"):
        plant.play(15, arrival_fps=20, busy=1.03)
    assert "engine busy 100 %" in caplog.text


def test_nothing_is_decided_on_less_than_a_second() -> None:
    plant = Plant()
    plant.play(1, arrival_fps=5, busy=0.1)
    assert plant.tuning.changes == 0


def riders(count: int) -> list[Rider]:
    return [Rider(f"cam{number}", 0) for number in range(count)]


def policy_of_four() -> BatchPolicy:
    policy = BatchPolicy(BatchingConfig(target=4, max_wait_ms=10))
    for number in range(8):
        policy.arrivals.admitted(f"cam{number}", 0, 0)
    return policy


def test_a_new_setting_holds_from_the_next_decision_on() -> None:
    policy = policy_of_four()
    waits = Decision(close=False, wake_ns=10 * NS_PER_MS)
    assert policy.decide(riders(3), 0, [], True, 0) == waits
    policy.apply(BatchSetting(3, 10.0))
    assert policy.place(riders(3), Rider("cam7", 0)) is Placement.WAIT
    assert policy.decide(riders(3), 0, [], True, 0) == Decision(close=True)
    policy.apply(BatchSetting(4, 2.5))
    assert policy.place(riders(3), Rider("cam7", 0)) is Placement.NEW_ROW
    assert policy.decide(riders(3), 0, [], True, 0).wake_ns == 2_500_000


def test_a_slot_fuller_than_its_new_target_leaves_whole() -> None:
    policy = policy_of_four()
    policy.apply(BatchSetting(2, 10.0))
    assert policy.decide(riders(4), 0, [], True, 0) == Decision(close=True)
    assert policy.decide(riders(4), 0, [], False, 0) == Decision(close=False)


@pytest.mark.parametrize("target", [0, 5])
def test_a_target_beyond_the_slots_is_refused(target: int) -> None:
    policy = policy_of_four()
    with pytest.raises(ValueError, match=r"within 1\.\.4"):
        policy.apply(BatchSetting(target, 10.0))
    assert policy.setting == BatchSetting(4, 10.0)


def test_other_cameras_mean_other_bounds_and_totals_from_anywhere() -> None:
    plant = Plant()
    assert plant.play(10, arrival_fps=20, busy=0.2) == BatchSetting(1, 0.0)
    plant.tuning.begin_anew(BatchSetting(16, 20.0))
    assert plant.tuning.setting == BatchSetting(1, 0.0)  # the same bounds: it stays where it is
    plant.tuning.begin_anew(BatchSetting(6, 10.0))
    assert plant.tuning.setting == BatchSetting(6, 10.0)
    plant._arrived = 0.0  # the camera that had sent most is gone
    heavy = plant.play(20, arrival_fps=600, busy=1.0)
    assert heavy.target == 6
    assert plant.play(10, arrival_fps=20, busy=0.2) == BatchSetting(1, 0.0)
