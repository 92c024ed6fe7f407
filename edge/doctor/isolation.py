"""What part of the machine the appliance has, and how its GPU could be shared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Tuple

from edge.cgroup import Grant, read_grant
from edge.doctor.finding import Finding, absent, ok, warning

_MB = 2**20
# The network's runtime, OpenCV and a few cameras; a Jetson's GPU comes on top.
_LEAST_MEMORY_BYTES = 1024 * _MB
_LEAST_FREE_BYTES = 512 * _MB
_LEAST_CPUS = 2
# Each camera, each lane and each library has a few.
_LEAST_TASKS = 256

_FIRST_SPARSE = (8, 0)
_MPS_PIPE = Path("tmp/nvidia-mps/control")
_MIG = Path("proc/driver/nvidia/capabilities")


@dataclass(frozen=True)
class Isolation:
    """`cpus` may be used of `all_cpus`; MIG's are the driver's files, `has_mps` its daemon's."""

    grant: Grant
    cpus: int
    all_cpus: int
    free_bytes: int
    has_mig: bool = False
    mig_instances: int = 0
    has_mps: bool = False


def look_at_isolation(root: Path = Path("/")) -> Isolation:
    """Reads the kernel's and the driver's files."""
    # Here, for it needs a library that may be missing.
    from edge.health.host import free_memory_bytes

    return Isolation(
        grant=read_grant(root),
        cpus=len(os.sched_getaffinity(0)),
        all_cpus=os.cpu_count() or 1,
        free_bytes=free_memory_bytes(root),
        has_mig=(root / _MIG / "mig").exists(),
        mig_instances=len(list((root / _MIG).glob("gpu*/mig/gi*"))),
        has_mps=(root / _MPS_PIPE).exists(),
    )


def judge_isolation(
    isolation: Isolation, module: Optional[str], capability: Optional[Tuple[int, int]]
) -> Iterator[Finding]:
    """`module` is the Jetson's name, `capability` the GPU's, None where unknown."""
    yield _memory(isolation)
    yield _cpus(isolation)
    yield _tasks(isolation.grant)
    yield _mig(isolation, module)
    yield _mps(isolation, module)
    yield _sparsity(capability)


def _memory(isolation: Isolation) -> Finding:
    limit, free = isolation.grant.memory_bytes, isolation.free_bytes
    of = "no control group limits it" if limit is None else f"limit {limit // _MB} MB"
    words = f"{free // _MB} MB free, {of}"
    fix = "systemctl edit edge.slice (MemoryMax=), docker run --memory"
    if limit is not None and limit < _LEAST_MEMORY_BYTES:
        return warning("memory", f"{words}: too little for a network and cameras", fix)
    if free < _LEAST_FREE_BYTES:
        return warning("memory", f"{words}: too little to begin with", "end other programs")
    return ok("memory", words)


def _cpus(isolation: Isolation) -> Finding:
    quota = isolation.grant.cpus
    words = f"{isolation.cpus} of {isolation.all_cpus} cores"
    if quota is not None:
        words += f", the time of {quota:g}"
    if min(isolation.cpus, quota or isolation.cpus) < _LEAST_CPUS:
        fix = (
            "systemctl edit edge.slice (CPUQuota=, AllowedCPUs=), docker run --cpus, --cpuset-cpus"
        )
        return warning("CPU", f"{words}: few for decoding and drawing", fix)
    return ok("CPU", words)


def _tasks(grant: Grant) -> Finding:
    if grant.tasks is None:
        return ok("tasks", "no control group limits threads")
    if grant.tasks < _LEAST_TASKS:
        fix = "systemctl edit edge.slice (TasksMax=), docker run --pids-limit"
        return warning("tasks", f"{grant.tasks} threads and processes at most: too few", fix)
    return ok("tasks", f"{grant.tasks} threads and processes at most")


def _mig(isolation: Isolation, module: Optional[str]) -> Finding:
    if isolation.mig_instances:
        return ok("MIG", f"the GPU is divided into {isolation.mig_instances} instances")
    if isolation.has_mig:
        return absent("MIG", "the driver can divide a GPU that is made for it; this one is whole")
    if module is not None and "Thor" not in module:
        return absent("MIG", "the GPUs of Xavier and Orin cannot be divided; Thor's is the first")
    return absent("MIG", "the GPU is not divided, or there is none")


def _mps(isolation: Isolation, module: Optional[str]) -> Finding:
    if isolation.has_mps:
        return ok("MPS", "its daemon runs: programs share the GPU at the same time")
    if module is not None and "Thor" not in module:
        words = "not for the GPUs of Xavier and Orin on JetPack 5 and 6"
        return absent(
            "MPS", f"{words}: programs take turns on the GPU, none is kept from its memory"
        )
    return absent("MPS", "its daemon does not run: programs take turns on the GPU")


def _sparsity(capability: Optional[Tuple[int, int]]) -> Finding:
    if capability is None:
        return absent("sparsity", "no GPU")
    if capability < _FIRST_SPARSE:
        words = f"compute capability {capability[0]}.{capability[1]} has no 2:4 kernels (8.0 has)"
        return absent("sparsity", f"{words}: engine.sparse_weights does nothing")
    return ok("sparsity", "2:4 kernels are there for pruned models (engine.sparse_weights)")
