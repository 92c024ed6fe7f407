"""The ladder on a device, whose ways are compared and whose load is read."""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.climb import Climb, End, Rig
from edge.building.tune import LADDER, DeviceTiming, Rung, Timing, median_stages
from edge.clock import NS_PER_MS
from edge.errors import EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Done, Pending
from edge.records import EngineInfo, StageTimes


class Device:
    """An engine whose batches take the time they are told to: up, through, down.

    Its time passes while it is waited for; what overlaps costs only what computes.
    """

    in_flight = 2
    info = EngineInfo("double", "1", "gpu", "fp16", 64)
    input_wh = (32, 16)
    cores = 2
    up_ms, compute_ms, down_ms = 3, 8, 1

    def __init__(self, power_w: float = 10.0, fits: int = 64) -> None:
        self.power_w = power_w
        self.fits = fits
        self.now_ns = 0
        self.every_s = 1.0
        self.stage_times: List[StageTimes] = []
        self.slots: List[Tuple[int, ...]] = []
        self.rows: List[Image] = []  # that are allocated
        self.most_rows = 0
        self.spans_ns: List[int] = []

    def launch(self, frames: Image) -> Pending:
        if len(frames) > self.fits:
            raise EngineOutOfMemory("no room")
        if self.every_s == 0:
            times = (self.up_ms, self.compute_ms, self.down_ms)
            self.stage_times.append(StageTimes(len(frames), *map(float, times)))
        self.now_ns += (self.up_ms + self.compute_ms + self.down_ms) * NS_PER_MS
        return Done(np.zeros((len(frames), 1, 6), np.float32))

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return self.launch(frames).wait()

    def compute_alone(self, rows: int, batches: int) -> None:
        assert rows <= self.info.max_batch
        self.now_ns += self.compute_ms * batches * NS_PER_MS

    def time_every(self, seconds: float) -> None:
        self.every_s = seconds

    def close(self) -> None:
        self.stage_times.clear()

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        self.slots.append(shape)
        self.rows.append(np.zeros(shape, np.uint8))
        self.most_rows = max(self.most_rows, sum(map(len, self.rows)))
        return self.rows[-1]

    def release(self, rows: Image) -> None:
        (place,) = (place for place, one in enumerate(self.rows) if one is rows)
        del self.rows[place]

    # --- gauges

    def monotonic_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return self.now_ns

    def rss_mb(self) -> float:
        return 100.0

    def available_mb(self) -> float:
        return math.inf

    def mean(self, start_ns: int, end_ns: int) -> Mapping[str, float]:
        self.spans_ns.append(end_ns - start_ns)
        return {"gpu_utilization": 0.9, "power_w": self.power_w}


def climb(device: Device, *, seconds: float = 0.0, has_load: bool) -> Tuple[Dict[int, Rung], End]:
    rig = Rig(device, 64, device, device, device if has_load else None)
    found = list(Climb(rig, seconds, lambda: False).findings())
    (end,) = [finding for finding in found if isinstance(finding, End)]
    return {rung.batch: rung for rung in found if isinstance(rung, Rung)}, end


def test_every_way_of_every_size() -> None:
    device = Device()
    rungs, end = climb(device, has_load=False)
    assert (tuple(rungs), end) == (LADDER, End(LADDER))
    for batch, rung in rungs.items():
        assert rung.device is not None
        # Compute alone takes 8 of the 12 ms of a batch; this double overlaps nothing.
        assert rung.device.serial == Timing(5, 12.0, 12.0, batch / 0.012, 0.0)
        assert rung.device.compute_alone_fps == pytest.approx(batch / 0.008)
        assert rung.device.stages == StageTimes(batch, 3.0, 8.0, 1.0)
        assert rung.timing.repeats >= 20
        assert rung.load == {}
    assert device.every_s > 0  # as it was


def test_frames_lie_where_the_engine_reads_them_best() -> None:
    device = Device()
    climb(device, has_load=False)
    assert device.slots == [(batch, 16, 32, 3) for batch in LADDER]
    # Pinned memory is kept from the rest of the machine: none but the largest batch's at a time.
    assert (device.most_rows, device.rows) == (LADDER[-1], [])


@pytest.mark.parametrize(
    ("power_w", "has_energy"),
    [pytest.param(10.0, True, id="known"), pytest.param(0.0, False, id="a sensor that is off")],
)
def test_the_load_is_read_once_it_has_lasted(power_w: float, has_energy: bool) -> None:
    device = Device(power_w)
    rungs, _ = climb(device, seconds=40.0, has_load=True)
    # Six tenths of 2.5 s, and the batches that were running then.
    assert len(device.spans_ns) == len(LADDER)
    assert all(1500 <= ns / NS_PER_MS < 1500 + 48 for ns in device.spans_ns)
    for rung in rungs.values():
        assert (rung.load["gpu_utilization"], rung.load["power_w"]) == (0.9, power_w)
        assert ("frames_per_joule" in rung.load) is has_energy
    if has_energy:
        fps = [rung.load["frames_per_joule"] * power_w / batch for batch, rung in rungs.items()]
        assert all(60 < per_batch < 120 for per_batch in fps)  # 1 / 12 ms, as threads have it


def test_memory_that_runs_out_while_the_load_is_read_takes_the_size_back() -> None:
    device = Device()
    rig = Rig(device, 64, device, device, device)
    sizes: Tuple[int, ...] = ()
    laps = 0
    for finding in Climb(rig, 0.0, lambda: False).findings():
        if isinstance(finding, End):
            sizes = finding.sizes
        elif finding.batch == LADDER[-1]:
            laps += 1
            device.fits = 16 if laps == 5 else 64
    assert sizes == (1, 2, 4, 8, 16)


# --- sums ------------------------------------------------------------------------------------

STAGES = {
    "none": (4, [], None),
    "one": (4, [(4, 1.0, 2.0, 3.0)], (1.0, 2.0, 3.0)),
    "the median": (4, [(4, 1.0, 9.0, 1.0), (4, 2.0, 8.0, 1.0), (4, 3.0, 1.0, 1.0)], (2.0, 8.0, 1)),
    "two calls": (6, [(4, 1.0, 2.0, 3.0), (2, 0.5, 1.0, 1.5)], (1.5, 3.0, 4.5)),
    "half a batch went before": (
        6,
        [(2, 0.5, 1.0, 1.5), (4, 1.0, 2.0, 3.0), (2, 0.5, 1.0, 1.5)],
        (1.5, 3.0, 4.5),
    ),
}


@pytest.mark.parametrize(("batch", "samples", "expected"), STAGES.values(), ids=STAGES)
def test_the_stages_of_whole_batches(
    batch: int,
    samples: List[Tuple[int, float, float, float]],
    expected: object,
) -> None:
    stages = median_stages(batch, [StageTimes(*sample) for sample in samples])
    assert (stages and (stages.upload_ms, stages.compute_ms, stages.download_ms)) == expected


@pytest.mark.parametrize("has_stages", [True, False])
def test_a_row_of_a_device_is_flat(has_stages: bool) -> None:
    serial = Timing(5, 12.0, 13.0, 100.0, 0.0)
    stages = StageTimes(4, 1.0, 2.0, 3.0) if has_stages else None
    timing = DeviceTiming(serial, 300.0, 1.5, 0.98765, stages)
    rung = Rung(4, 1, Timing(9, 7.0, 8.0, 200.0, 0.01), 0.5, 112.0, 3.0, timing, {"power_w": 9.0})
    row = rung.row()
    assert {key: row[key] for key in list(row)[10:]} == {
        "serial_fps": 100.0,
        "serial_ms_p50": 12.0,
        "serial_ms_p99": 13.0,
        "compute_alone_fps": 300.0,
        "overlap_over_serial": 1.5,
        "overlap_over_compute": 0.9877,
        **({"upload_ms": 1.0, "compute_ms": 2.0, "download_ms": 3.0} if has_stages else {}),
        "power_w": 9.0,
    }
