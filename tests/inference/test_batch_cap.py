from __future__ import annotations

from typing import Optional, Tuple

import pytest

from edge.inference.batch_cap import affordable_rows, batch_cap, cap_of
from edge.records import EngineInfo


@pytest.mark.parametrize(
    ("free_bytes", "row_bytes", "expected"),
    [
        pytest.param(4000, 0, None, id="unknown"),
        pytest.param(4000, 100, 10, id="a quarter of what is free"),
        pytest.param(3999, 100, 9, id="whole rows"),
        pytest.param(0, 100, 1, id="one at least"),
    ],
)
def test_a_quarter_of_the_free_memory_is_affordable(
    free_bytes: int, row_bytes: int, expected: Optional[int]
) -> None:
    assert affordable_rows(free_bytes, row_bytes) == expected


@pytest.mark.parametrize(
    ("affordable", "expected"), [(9, (8, "Xavier NX")), (7, (7, "free memory"))]
)
def test_memory_limits_the_cap_like_the_rest(affordable: int, expected: Tuple[int, str]) -> None:
    assert batch_cap(32, None, "Jetson Xavier NX", affordable) == expected


@pytest.mark.parametrize(
    ("engine_max", "configured", "module", "expected"),
    [
        pytest.param(8, None, None, (8, "the engine"), id="the engine alone"),
        pytest.param(32, 4, None, (4, "engine.max_batch"), id="the config, lower"),
        pytest.param(4, 16, None, (4, "the engine"), id="the config cannot raise it"),
        pytest.param(
            32, None, "NVIDIA Jetson Xavier NX Developer Kit", (8, "Xavier NX"), id="the module"
        ),
        pytest.param(32, None, "NVIDIA Jetson AGX Orin", (32, "the engine"), id="another module"),
        pytest.param(32, 2, "Jetson Xavier NX", (2, "engine.max_batch"), id="lowest of all"),
    ],
)
def test_the_lowest_limit_is_the_cap(
    engine_max: int, configured: Optional[int], module: Optional[str], expected: Tuple[int, str]
) -> None:
    assert batch_cap(engine_max, configured, module) == expected


@pytest.mark.parametrize(("is_static", "cap"), [(False, 2), (True, 8)])
def test_a_static_engine_is_not_given_less_than_it_computes_anyway(
    is_static: bool, cap: int
) -> None:
    info = EngineInfo("small", "1", "test", "fp32", 8, is_static=is_static)
    assert cap_of(info, 4, "Jetson Xavier NX", 2)[0] == cap
