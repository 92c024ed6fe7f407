from __future__ import annotations

from typing import List, Optional

import pytest

from edge.building.tensorrt_calibrator import CalibrationFeeder, scaled_in
from edge.building.tensorrt_progress import BuildMeter, PhaseTree
from edge.config.schema import Precision
from edge.records import BuildProgress


def told(lines: List[str], start: float = 0.0, end: float = 1.0) -> List[Optional[float]]:
    progress: List[BuildProgress] = []
    meter = BuildMeter(Precision.FP16, progress.append, start, end)
    for line in lines:
        meter.hear(line)
    return [p.done for p in progress]


LAYERS = "After final dead-layer removal: {} layers"
COSTS = "=============== Computing costs for "
LOGS = {
    "every layer": ([LAYERS.format(4), *[COSTS] * 4], [0.25, 0.5, 0.75, 1.0]),
    "other lines": (["Graph optimization time: 1 s", LAYERS.format(2), "Tactic: 1", COSTS], [0.5]),
    "more costs than layers": ([LAYERS.format(1), COSTS, COSTS], [1.0]),
    "no count of layers": ([COSTS], [1.0]),
    "nothing": (["hello"], []),
    "many layers": ([LAYERS.format(1000), *[COSTS] * 10], [0.001]),
}


@pytest.mark.parametrize(("lines", "done"), LOGS.values(), ids=LOGS)
def test_progress_from_the_log(lines: List[str], done: List[float]) -> None:
    assert told(lines) == done


def test_a_part_of_the_whole() -> None:
    assert told([LAYERS.format(2), COSTS, COSTS], 0.5, 1.0) == [0.75, 1.0]


def test_progress_never_falls() -> None:
    assert told([LAYERS.format(2), COSTS, LAYERS.format(8), COSTS]) == [0.5]


def test_phases_within_phases() -> None:
    phases = PhaseTree()
    assert phases.share == 0.0
    phases.start("outer", None, 2)
    phases.start("inner", "outer", 4)
    shares = [phases.share]
    for step in range(4):
        phases.step("inner", step)
        shares.append(phases.share)
    phases.finish("inner")
    phases.step("outer", 0)
    shares.append(phases.share)
    phases.step("outer", 1)
    shares.append(phases.share)
    phases.finish("outer")
    phases.finish("outer")
    phases.step("outer", 1)
    assert shares == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5, 1.0]
    assert phases.share == 0.0


CACHES = {
    "usual": (
        b"TRT-8502-EntropyCalibration2\nimages: 3c01\n/a/Conv: 3d01\n",
        {"images", "/a/Conv"},
    ),
    "colons": (b"TRT-8502-MinMaxCalibration\nscope::a:0: 3c01\n", {"scope::a:0"}),
    "empty": (b"", set()),
    "no scale": (b"TRT-8502-EntropyCalibration2\n\n", set()),
}


@pytest.mark.parametrize(("cache", "names"), CACHES.values(), ids=CACHES)
def test_names_in_a_calibration_cache(cache: bytes, names: object) -> None:
    assert scaled_in(cache) == names


def test_a_cache_that_was_not_written_is_missed() -> None:
    with pytest.raises(Exception, match="written no scales"):
        CalibrationFeeder.of_cache(b"").check(0)


def test_the_first_thing_that_went_wrong_is_the_one_that_counts() -> None:
    feeder = CalibrationFeeder.of_cache(b"")
    first, second = OSError("first"), OSError("second")
    for error in (first, second):
        with pytest.raises(OSError, match=r"first|second"), feeder:
            raise error
    assert feeder.error is first
