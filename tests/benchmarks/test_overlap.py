"""That the loop is run in the ways that are promised, on a CUDA that does nothing unawaited."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Tuple

import pytest

from benchmarks.overlap import VARIANTS, Device
from tests.inference.host_cuda import HostCuda
from tests.inference.test_overlap import MAX_BATCH, Sums


@contextlib.contextmanager
def device_of(variant: str = "two_in_flight") -> Iterator[Tuple[Device, Sums]]:
    host = HostCuda()
    with host.context() as context, context.current():
        program: Any = Sums(host)
        program.is_alone = True
        with contextlib.closing(Device(context, program, VARIANTS[variant])) as device:
            yield device, program


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("way", ["serial", "overlapped", "compute"])
def test_every_way_runs_its_batches(way: str, variant: str) -> None:
    with device_of(variant) as (device, program):
        lap = getattr(device, way)(3, 5)
        # What is recorded once is not queued by the program again.
        assert program.rows[:5] == [3] * 5
        if way != "compute":
            assert len(lap) == 5
            assert all(list(moments) == sorted(moments) for moments in lap)


def test_uploads_alone_compute_nothing() -> None:
    with device_of() as (device, program):
        device.copies(MAX_BATCH, 6)
        assert program.rows == []
        assert device.launch_ms(2, 3) > 0
        assert program.rows == [2] * 3
