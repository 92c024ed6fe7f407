from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from edge.building.climb import Climb, End, Finding, Rig
from edge.building.tune import (
    LADDER,
    Point,
    Rung,
    Timing,
    is_doubtful,
    knee,
    noise_at_knee,
    timing,
)
from edge.building.tune_plot import round_up, svg
from edge.clock import NS_PER_MS
from edge.config.schema import BatchingConfig
from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Synchronous
from edge.records import EngineInfo

# --- the knee --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([], None, id="nothing measured"),
        pytest.param([(4, 10.0, 0.0)], 4, id="one point"),
        pytest.param([(1, 95.0, 0.0), (2, 100.0, 0.0)], 1, id="exactly 95 %"),
        pytest.param([(1, 94.9, 0.0), (2, 100.0, 0.0)], 2, id="just below 95 %"),
        pytest.param(
            [(1, 30.0, 0.0), (2, 60.0, 0.0), (4, 96.0, 0.0), (8, 100.0, 0.0), (16, 99.0, 0.0)],
            4,
            id="a curve that saturates",
        ),
        pytest.param([(1, 50.0, 0.0), (2, 100.0, 0.0), (4, 60.0, 0.0)], 2, id="a peak"),
        pytest.param([(1, 53.0, 0.0), (2, 50.0, 0.0), (4, 40.0, 0.0)], 1, id="falling"),
        pytest.param([(2, 100.0, 0.0), (1, 99.0, 0.0)], 1, id="in any order"),
        pytest.param([(1, 93.0, 0.02), (2, 100.0, 0.0)], 2, id="noise too small to excuse it"),
        pytest.param([(1, 93.0, 0.03), (2, 100.0, 0.0)], 1, id="noise excuses it"),
        pytest.param([(1, 91.0, 0.05), (2, 100.0, 0.0)], 1, id="as much as noise may excuse"),
        pytest.param([(1, 90.0, 9.0), (2, 100.0, 0.0)], 2, id="noise may not excuse everything"),
        pytest.param([(1, 90.0, 0.0), (2, 100.0, 0.5)], 2, id="the best one's noise is no excuse"),
    ],
)
def test_the_knee(points: Sequence[Tuple[int, float, float]], expected: Optional[int]) -> None:
    assert knee([Point(*point) for point in points]) == expected


@pytest.mark.parametrize(
    ("points", "noise"),
    [
        pytest.param([], 0.0, id="nothing measured"),
        pytest.param([(1, 28.0, 0.05), (2, 32.5, 0.04)], 0.05, id="as much as may be"),
        pytest.param([(1, 28.0, 0.086), (2, 32.5, 0.01)], 0.086, id="of a size it went before"),
        pytest.param([(1, 28.0, 0.01), (2, 32.5, 0.182)], 0.182, id="of its own"),
        pytest.param([(1, 32.4, 0.01), (2, 32.5, 0.182)], 0.182, id="of the best"),
        pytest.param([(1, 32.5, 0.01), (2, 30.0, 0.182)], 0.01, id="not of a larger size"),
    ],
)
def test_a_knee_among_noise_is_doubtful(
    points: Sequence[Tuple[int, float, float]], noise: float
) -> None:
    measured = [Point(*point) for point in points]
    assert noise_at_knee(measured) == noise
    assert is_doubtful(measured) is (noise > 0.05)


@given(st.dictionaries(st.sampled_from(LADDER), st.floats(0.01, 1e5), min_size=1))
def test_the_knee_is_good_enough_and_nothing_smaller_is(fps_by_batch: Dict[int, float]) -> None:
    chosen = knee([Point(batch, fps) for batch, fps in fps_by_batch.items()])
    enough = 0.95 * max(fps_by_batch.values())
    assert min(batch for batch, fps in fps_by_batch.items() if fps >= enough) == chosen


def test_the_ladder_ends_at_the_largest_target_a_config_can_ask_for() -> None:
    assert BatchingConfig(target=LADDER[-1]).target == LADDER[-1]
    with pytest.raises(ValidationError):
        BatchingConfig(target=LADDER[-1] + 1)


# --- sums ------------------------------------------------------------------------------------


def test_timing_by_hand() -> None:
    # Quartiles of 10, 20, 30, 40, 50 are 15 and 45: 0.929 * 30 / sqrt(5) / 30.
    result = timing(6, [ms * NS_PER_MS for ms in (50, 10, 30, 20, 40)])
    assert result == Timing(5, 30.0, 50.0, 200.0, result.noise)
    assert result.noise == pytest.approx(0.4155, abs=1e-4)


@pytest.mark.parametrize(("count", "p99_ms"), [(1, 1), (100, 99), (101, 100), (200, 198)])
def test_99_of_100_batches_took_no_longer(count: int, p99_ms: int) -> None:
    assert timing(1, [n * NS_PER_MS for n in range(1, count + 1)]).latency_ms_p99 == p99_ms


def test_a_few_disturbed_batches_do_not_move_the_throughput() -> None:
    calm = timing(4, [10 * NS_PER_MS] * 99)
    disturbed = timing(4, [10 * NS_PER_MS] * 90 + [900 * NS_PER_MS] * 9)
    assert disturbed.throughput_fps == calm.throughput_fps == 400.0
    assert disturbed.noise == calm.noise == 0.0
    assert disturbed.latency_ms_p99 == 900.0


def test_what_overlaps_is_judged_by_its_results() -> None:
    result = timing(4, [20 * NS_PER_MS] * 6, [10 * NS_PER_MS] * 3)
    assert result == Timing(6, 20.0, 20.0, 400.0, 0.0)


# --- climbing --------------------------------------------------------------------------------


class Machine(Synchronous):
    """An engine and the machine it runs on: time and memory pass as the engine spends them.

    A call takes `call_ms` and `frame_ms` for each frame, on one core of two; every frame of the
    largest call yet holds `frame_mb`.
    """

    info = EngineInfo("double", "1", "test", "fp32", 64)
    input_wh = (32, 16)
    cores = 2

    def __init__(
        self,
        fits: int = 64,
        frame_mb: float = 3.0,
        available_mb: float = 1e6,
        before_call: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.fits = fits
        self.frame_mb = frame_mb
        self.free_mb = available_mb
        self.before_call = before_call
        self.now_ns = 0
        self.largest = 0
        self.calls: List[int] = []

    def infer(self, frames: Image) -> NDArray[np.float32]:
        count = len(frames)
        self.before_call(count)
        if count > self.fits:
            raise EngineOutOfMemory(f"no room for {count} frames")
        self.calls.append(count)
        self.now_ns += (6 + 2 * count) * NS_PER_MS
        self.largest = max(self.largest, count)
        return np.zeros((count, 1, 6), np.float32)

    def close(self) -> None:
        self.calls.clear()

    def monotonic_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return self.now_ns

    def rss_mb(self) -> float:
        return 100 + self.frame_mb * self.largest

    def available_mb(self) -> float:
        return self.free_mb


def climb(
    machine: Machine,
    cap: int = 64,
    seconds: float = 0.0,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Tuple[Dict[int, Rung], Optional[End]]:
    """The last that was found of every size, and the end if there was one."""
    found: List[Finding] = list(Climb(Rig(machine, cap, machine), seconds, is_stopped).findings())
    rungs = {finding.batch: finding for finding in found if isinstance(finding, Rung)}
    ends = [finding for finding in found if isinstance(finding, End)]
    assert len(ends) <= 1
    assert not ends or found[-1] is ends[0]
    return rungs, (ends[0] if ends else None)


def test_every_size_is_measured_for_what_it_is() -> None:
    rungs, end = climb(Machine())
    assert end == End(LADDER)
    assert tuple(rungs) == LADDER
    for batch, rung in rungs.items():
        ms = 6 + 2 * batch
        assert rung.timing == Timing(5, ms, ms, batch * 1000 / ms, 0.0)
        assert (rung.calls, rung.cpu_utilization) == (1, 0.5)
        assert (rung.rss_mb, rung.rss_mb_per_row) == (100 + 3 * batch, 3.0)
    assert knee([rung.point for rung in rungs.values()]) == 32  # 457 of 478 frames per second


def test_sizes_above_the_cap_run_in_parts() -> None:
    machine = Machine()
    rungs, _ = climb(machine, cap=8)
    assert max(machine.calls) == 8
    assert [rung.calls for rung in rungs.values()] == [1, 1, 1, 1, 2, 4, 8]
    assert rungs[64].timing.latency_ms_p50 == 8 * (6 + 2 * 8)
    assert rungs[64].rss_mb_per_row == 0.0
    assert knee([rung.point for rung in rungs.values()]) == 8


def test_the_sizes_take_turns_and_share_the_time() -> None:
    machine = Machine()
    rungs, _ = climb(machine, seconds=35.0)
    for rung in rungs.values():
        spent_ms = rung.timing.repeats * rung.timing.latency_ms_p50
        # A fifth of 35 s / 7 in each lap, and the batch that was running then.
        assert 5000 <= spent_ms < 5000 + 5 * rung.timing.latency_ms_p50
    turns = [b for a, b in zip([0, *machine.calls], machine.calls) if a != b]
    assert turns == list(LADDER) * 5


def test_memory_below_the_allocators_noise_is_nothing() -> None:
    rungs, _ = climb(Machine(frame_mb=0.02))
    # 32 rows more on the last rung are 0.64 MiB.
    assert [rung.rss_mb_per_row for rung in rungs.values()] == [0.0] * len(LADDER)
    rungs, _ = climb(Machine(frame_mb=0.04))
    assert [rung.rss_mb_per_row for rung in rungs.values()] == [
        *[0.0] * 6,
        pytest.approx(0.04),
    ]


@pytest.mark.parametrize(
    ("fits", "sizes"),
    [
        pytest.param(0, (), id="not even one"),
        pytest.param(1, (1,), id="one"),
        pytest.param(7, (1, 2, 4), id="between two sizes"),
        pytest.param(8, (1, 2, 4, 8), id="exactly a size"),
        pytest.param(63, LADDER[:-1], id="all but the last"),
    ],
)
def test_out_of_memory_ends_the_ladder(fits: int, sizes: Tuple[int, ...]) -> None:
    rungs, end = climb(Machine(fits=fits))
    assert end is not None
    assert tuple(rungs) == end.sizes == sizes
    assert end.out_of_memory.startswith(f"out of memory at {LADDER[len(sizes)]} frames: ")
    assert all(rung.timing.repeats == 5 for rung in rungs.values())


def test_pythons_own_memory_error_ends_it_too() -> None:
    def refuse(count: int) -> None:
        if count >= 16:
            raise MemoryError

    _, end = climb(Machine(before_call=refuse))
    assert end == End((1, 2, 4, 8), "out of memory at 16 frames: no room for the frames")


def test_memory_that_runs_out_later_takes_a_size_back() -> None:
    machine = Machine()
    machine.before_call = lambda count: setattr(
        machine, "fits", 7 if machine.calls.count(64) > 4 else 64
    )
    rungs, end = climb(machine)
    assert tuple(rungs) == LADDER
    assert end is not None
    assert end.sizes == (1, 2, 4)
    assert end.out_of_memory.startswith("out of memory at 8 frames")
    assert rungs[4].timing.repeats == 5


@pytest.mark.parametrize(
    ("available_mb", "sizes"),
    [
        # The sixth rung has 16 rows more than the fifth, of 3 MiB each, and 1.5 KiB per frame.
        pytest.param(64 + 3 * 16 + 0.04, LADDER[:5], id="a little too little for 32"),
        pytest.param(64 + 3 * 16 + 0.05, LADDER[:6], id="just enough for 32, not for 64"),
        pytest.param(10.0, (), id="nothing is left"),
    ],
)
def test_it_ends_before_the_kernel_kills(available_mb: float, sizes: Tuple[int, ...]) -> None:
    machine = Machine(available_mb=available_mb)
    _, end = climb(machine)
    assert end is not None
    assert end.sizes == sizes
    assert "MiB available" in end.out_of_memory
    assert max(machine.calls, default=0) == (sizes[-1] if sizes else 0)


def test_a_stop_ends_it_without_an_end() -> None:
    machine = Machine()
    rungs, end = climb(machine, is_stopped=lambda: 8 in machine.calls)
    assert (tuple(rungs), end) == ((1, 2, 4), None)


def test_another_failure_of_the_engine_is_not_taken_for_memory() -> None:
    def fail(count: int) -> None:
        raise EngineError("the engine is broken")

    with pytest.raises(EngineError, match="broken"):
        climb(Machine(before_call=fail))


def test_a_row_is_flat_and_short() -> None:
    rung = climb(Machine())[0][4]
    assert rung.row() == {
        "batch": 4,
        "calls": 1,
        "repeats": 5,
        "latency_ms_p50": 14.0,
        "latency_ms_p99": 14.0,
        "throughput_fps": 285.7143,
        "noise": 0.0,
        "cpu_utilization": 0.5,
        "rss_mb": 112.0,
        "rss_mb_per_row": 3.0,
    }


# --- the plot --------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [Point(1, 30.0), Point(2, 55.0), Point(4, 61.2)]


def test_the_plot_shows_every_point_and_marks_the_knee() -> None:
    root = ElementTree.fromstring(svg("tiny <&> on cpu", POINTS, 4))
    circles = root.findall(f"{SVG}circle")
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert len(circles) == 3
    assert len({circle.get("fill") for circle in circles}) == 2
    assert {"tiny <&> on cpu", "30.0", "55.0", "61.2", "1", "2", "4 (knee)"} <= set(texts)
    xs = [float(circle.get("cx", "")) for circle in circles]
    ys = [float(circle.get("cy", "")) for circle in circles]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])  # doublings are equal steps
    assert ys == sorted(ys, reverse=True)  # SVG counts downwards


def test_other_ways_are_drawn_beside_it() -> None:
    others = {"serial": [Point(1, 20.0), Point(4, 40.0)], "compute <alone>": [Point(1, 900.0)]}
    root = ElementTree.fromstring(svg("tiny", POINTS, 4, others))
    lines = root.findall(f"{SVG}polyline")
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert len({line.get("stroke") for line in lines}) == len(lines) == 3
    assert {"serial", "compute <alone>", "overlapped", "1000"} <= set(texts)
    assert "900.0" not in texts  # only its own line has numbers
    assert "overlapped" not in svg("tiny", POINTS, 4)


@given(
    st.lists(
        st.builds(Point, st.sampled_from(LADDER), st.floats(1e-3, 1e6)), min_size=1, max_size=7
    )
)
def test_any_measurement_stays_inside_the_frame(points: List[Point]) -> None:
    root = ElementTree.fromstring(svg("any", points, None))
    for circle in root.findall(f"{SVG}circle"):
        assert 64 <= float(circle.get("cx", "")) <= 616
        assert 48 <= float(circle.get("cy", "")) <= 344


@pytest.mark.parametrize(
    ("value", "expected"), [(0.2, 0.2), (1.0, 1.0), (1.01, 2.0), (2.1, 2.5), (26, 50), (51, 100)]
)
def test_steps_people_can_read(value: float, expected: float) -> None:
    assert round_up(value) == pytest.approx(expected)
