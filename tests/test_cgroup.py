"""What control groups grant, from the files of both versions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Dict

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cgroup import Grant, read_grant, usable_cpus
from edge.health.host import free_memory_bytes
from tests.health.sysfs_files import write_files

MB = 2**20
V2 = {"proc/self/cgroup": "0::/edge.slice/edge.service\n"}
V1 = {
    "proc/self/cgroup": (
        "9:memory:/docker/abc\n8:cpu,cpuacct:/docker/abc\n7:pids:/docker/abc\n"
        "1:name=systemd:/docker/abc\n0::/system.slice/docker.service\n"
    )
}
UNIT = "sys/fs/cgroup/edge.slice/edge.service"
SLICE = "sys/fs/cgroup/edge.slice"

GRANTS = {
    "no control groups": ({}, Grant()),
    "no limits": (
        {
            **V2,
            f"{UNIT}/memory.max": "max\n",
            f"{UNIT}/memory.current": "5\n",
            f"{UNIT}/cpu.max": "max 100000\n",
            f"{UNIT}/pids.max": "max\n",
        },
        Grant(),
    ),
    "a unit's": (
        {
            **V2,
            f"{UNIT}/memory.max": f"{1000 * MB}\n",
            f"{UNIT}/memory.current": f"{600 * MB}\n",
            f"{UNIT}/memory.stat": f"anon 1\nfile 3\ninactive_file {100 * MB}\n",
            f"{UNIT}/cpu.max": "150000 100000\n",
            f"{UNIT}/pids.max": "1024\n",
        },
        Grant(1000 * MB, 500 * MB, 1.5, 1024),
    ),
    "its slice's is tighter": (
        {
            **V2,
            f"{UNIT}/memory.max": f"{1000 * MB}\n",
            f"{UNIT}/memory.current": f"{10 * MB}\n",
            f"{SLICE}/memory.max": f"{900 * MB}\n",
            f"{SLICE}/memory.current": f"{700 * MB}\n",
            f"{SLICE}/cpu.max": "50000 100000\n",
            f"{UNIT}/cpu.max": "400000 100000\n",
        },
        Grant(900 * MB, 200 * MB, 0.5),
    ),
    "reclaimed from before it is full": (
        {
            **V2,
            f"{SLICE}/memory.max": f"{800 * MB}\n",
            f"{SLICE}/memory.high": f"{700 * MB}\n",
            f"{SLICE}/memory.current": f"{650 * MB}\n",
        },
        Grant(700 * MB, 50 * MB),
    ),
    "overdrawn": (
        {
            **V2,
            f"{UNIT}/memory.high": f"{700 * MB}\n",
            f"{UNIT}/memory.current": f"{800 * MB}\n",
        },
        Grant(700 * MB, 0),
    ),
    "how much is used is not said": (
        {**V2, f"{UNIT}/memory.max": f"{700 * MB}\n"},
        Grant(700 * MB, 700 * MB),
    ),
    "version 2 in a container": (
        {
            "proc/self/cgroup": "0::/../../system.slice/docker-abc.scope\n",
            "sys/fs/cgroup/memory.max": f"{512 * MB}\n",
            "sys/fs/cgroup/memory.current": "0\n",
            "sys/fs/cgroup/cpu.max": "200000 100000\n",
        },
        Grant(512 * MB, 512 * MB, 2.0),
    ),
    "version 1 in a container": (
        {
            **V1,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{512 * MB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{400 * MB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {8 * MB}\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/pids/pids.max": "100\n",
        },
        Grant(512 * MB, 120 * MB, 2.5, 100),
    ),
    "version 1 without limits": (
        {
            **V1,
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "5\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
        },
        Grant(),
    ),
    "damaged files": (
        {
            "proc/self/cgroup": "garbage\n\n0:\n",
            "sys/fs/cgroup/memory.max": "much\n",
            "sys/fs/cgroup/cpu.max": "100000 0\n",
        },
        Grant(),
    ),
}


@pytest.mark.parametrize(("files", "grant"), GRANTS.values(), ids=GRANTS)
def test_grant(tmp_path: Path, files: Dict[str, str], grant: Grant) -> None:
    assert read_grant(write_files(tmp_path, files)) == grant


def test_this_process_own_can_be_read() -> None:
    grant = read_grant()
    assert grant.cpus is None or grant.cpus > 0
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))


CPUS = {
    "no quota": ("max 100000", 8),
    "a quota above the cores": ("1600000 100000", 8),
    "a whole number": ("200000 100000", 2),
    "a part more": ("210000 100000", 3),
    "less than one": ("10000 100000", 1),
}


@pytest.mark.parametrize(("quota", "cpus"), CPUS.values(), ids=CPUS)
def test_threads_for_which_there_is_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota}\n"}
    assert usable_cpus(write_files(tmp_path, files)) == cpus


def test_free_memory_is_no_more_than_the_group_is_granted(tmp_path: Path) -> None:
    available = psutil.virtual_memory().available
    files = {
        **V2,
        f"{UNIT}/memory.max": f"{300 * MB}\n",
        f"{UNIT}/memory.current": f"{200 * MB}\n",
    }
    assert free_memory_bytes(write_files(tmp_path / "limited", files)) == 100 * MB
    assert free_memory_bytes(tmp_path) > available / 2
    vast = write_files(tmp_path / "vast", {**V2, f"{UNIT}/memory.max": f"{2**59}\n"})
    assert free_memory_bytes(vast) < 2**59


NAMES = ("memory.max", "memory.current", "memory.stat", "cpu.max", "cpu.cfs_quota_us", "pids.max")
TEXTS = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map("{0[0]} {0[1]}".format),
    st.integers(0, 2**70).map("inactive_file {}".format),
)


@given(
    groups=st.one_of(st.text(max_size=40), st.just("0::/a\n"), st.just("3:memory,cpu,pids:/\n")),
    files=st.dictionaries(st.sampled_from(NAMES), TEXTS),
)
def test_no_text_stops_it(groups: str, files: Dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        root = write_files(Path(folder), {"proc/self/cgroup": groups.replace("\0", ""), **written})
        grant = read_grant(root)
    assert grant.cpus is None or grant.cpus >= 0
    assert grant.memory_free_bytes is None or grant.memory_free_bytes >= 0
