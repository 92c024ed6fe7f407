"""Free memory, where the GPU has its own and where it shares the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.inference import free_memory
from edge.inference.cuda import Context
from edge.inference.free_memory import available_bytes, free_bytes
from tests.inference.host_cuda import HostCuda

MEMINFO = "MemTotal:        7764540 kB\nMemFree:          201224 kB\nMemAvailable:    5122048 kB\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(MEMINFO, 5122048 * 1024), ("MemTotal: 7764540 kB\n", 0), (None, 0)],
    ids=["a Jetson", "an old kernel", "no /proc"],
)
def test_what_the_machine_can_give(tmp_path: Path, content: str, expected: int) -> None:
    if content is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/meminfo").write_text(content)
    assert available_bytes(tmp_path) == expected


def test_this_machine_says_it() -> None:
    assert available_bytes() > 0


@pytest.mark.parametrize(
    ("is_integrated", "available", "expected"),
    [(True, 5000, 5000), (True, 100, 1000), (False, 5000, 1000)],
    ids=["page cache can be had", "the driver knows of more", "memory of its own"],
)
def test_page_cache_counts_where_memory_is_shared(
    monkeypatch: pytest.MonkeyPatch, is_integrated: bool, available: int, expected: int
) -> None:
    with HostCuda(free_bytes=1000).context() as context, context.current():
        monkeypatch.setattr(Context, "is_integrated", is_integrated)
        monkeypatch.setattr(free_memory, "available_bytes", lambda: available)
        assert free_bytes(context) == expected
