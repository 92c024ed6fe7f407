"""Limits of control groups, and what a GPU cannot do, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest

from edge.cgroup import Grant
from edge.doctor.isolation import Isolation, judge_isolation, look_at_isolation
from tests.health.sysfs_files import write_files

MB = 2**20
NO_LIMIT = Grant()
NX, THOR = "NVIDIA Jetson Xavier NX", "NVIDIA Jetson AGX Thor"


def isolation(grant: Grant = NO_LIMIT, cpus: int = 6, **keys: Any) -> Isolation:
    return Isolation(grant, cpus, 6, **{"free_bytes": 1024 * MB, **keys})


ROWS: Dict[str, Any] = {
    "no limit": (isolation(free_bytes=600 * MB), NX, None, "memory", "ok", "600 MB free, no"),
    "a limit": (
        isolation(Grant(1024 * MB), free_bytes=512 * MB), NX, None,
        "memory", "ok", "512 MB free, limit 1024 MB",
    ),
    "a tight limit": (
        isolation(Grant(1024 * MB - 1), free_bytes=600 * MB), NX, None,
        "memory", "warning", "too little for a network",
    ),
    "hardly any is free": (
        isolation(free_bytes=512 * MB - 1), NX, None, "memory", "warning", "too little to begin",
    ),
    "all cores": (isolation(), NX, None, "CPU", "ok", "6 of 6 cores"),
    "a quota": (isolation(Grant(cpus=2.0)), NX, None, "CPU", "ok", "6 of 6 cores, the time of 2"),
    "a small quota": (isolation(Grant(cpus=1.9)), NX, None, "CPU", "warning", "the time of 1.9"),
    "one core": (isolation(cpus=1), NX, None, "CPU", "warning", "1 of 6 cores"),
    "no limit of tasks": (isolation(), NX, None, "tasks", "ok", ""),
    "tasks enough": (isolation(Grant(tasks=256)), NX, None, "tasks", "ok", "256"),
    "too few tasks": (isolation(Grant(tasks=255)), NX, None, "tasks", "warning", "too few"),
    "no MIG on Xavier": (isolation(), NX, None, "MIG", "not here", "cannot be divided"),
    "MIG not used on Thor": (isolation(), THOR, None, "MIG", "not here", "is not divided"),
    "no MIG elsewhere": (isolation(), None, None, "MIG", "not here", "or there is none"),
    "MIG possible": (isolation(has_mig=True), None, None, "MIG", "not here", "made for it"),
    "MIG": (isolation(has_mig=True, mig_instances=2), None, None, "MIG", "ok", "2 instances"),
    "no MPS on Xavier": (isolation(), NX, None, "MPS", "not here", "Xavier and Orin"),
    "no MPS elsewhere": (isolation(), None, None, "MPS", "not here", "does not run"),
    "MPS": (isolation(has_mps=True), None, None, "MPS", "ok", "runs"),
    "no GPU": (isolation(), None, None, "sparsity", "not here", "no GPU"),
    "Volta": (isolation(), NX, (7, 2), "sparsity", "not here", "7.2 has no 2:4 kernels"),
    "Ampere": (isolation(), NX, (8, 0), "sparsity", "ok", "engine.sparse_weights"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "module", "capability", "subject", "verdict", "words"), ROWS.values(), ids=ROWS
)
def test_row(
    facts: Isolation, module: Any, capability: Any, subject: str, verdict: str, words: str
) -> None:
    found = {f.subject: f for f in judge_isolation(facts, module, capability)}
    assert len(found) == 6
    assert found[subject].verdict.value == verdict
    assert words in found[subject].words
    assert bool(found[subject].fix) == (verdict == "warning")


def test_files(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/pids.max": "77\n",
        "proc/driver/nvidia/capabilities/mig/config": "",
        "proc/driver/nvidia/capabilities/gpu0/mig/gi1/access": "",
        "proc/driver/nvidia/capabilities/gpu0/mig/gi2/access": "",
        "tmp/nvidia-mps/control": "",
    }
    looked = look_at_isolation(write_files(tmp_path, files))
    assert looked.grant == Grant(tasks=77)
    assert (looked.has_mig, looked.mig_instances, looked.has_mps) == (True, 2, True)
    assert looked.free_bytes > 0
    assert 1 <= looked.cpus <= looked.all_cpus
