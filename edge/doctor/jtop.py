"""Whether the service of jetson-stats answers, and why it does not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from edge.clock import NS_PER_S, Clock
from edge.config.health import HealthConfig
from edge.config.health import Probe as ProbeName
from edge.doctor.finding import Finding, absent, ok, warning

_PATIENCE_S = 12.0
_POLL_S = 0.1
_STOP_S = 5.0


@dataclass(frozen=True)
class Jtop:
    """How many numbers it gave, or its `trouble` with what to do."""

    numbers: int = 0
    trouble: str = ""


def ask_jtop(root: Path, clock: Clock) -> Jtop:
    """Asks as the daemon would, until it answers or explains itself."""
    # Here, for it needs libraries that may be missing.
    from edge.health.monitor import make_probes

    probes = make_probes(
        HealthConfig(probes=[ProbeName.JTOP], sample_s=1.0), root, clock, lambda name, error: None
    )
    until_ns = clock.monotonic_ns() + int(_PATIENCE_S * NS_PER_S)
    for probe in probes:
        probe.start()
        try:
            while clock.monotonic_ns() < until_ns and not probe.latest() and not probe.trouble:
                time.sleep(_POLL_S)
            sample = probe.latest()
            if sample is not None:
                return Jtop(len(sample.numbers))
            return Jtop(trouble=probe.trouble or f"no answer within {_PATIENCE_S:.0f} s")
        finally:
            probe.stop(_STOP_S)
    return Jtop()


def judge_jtop(jtop: Jtop, is_jetson: bool) -> Iterator[Finding]:
    """Without it health comes from tegrastats or the kernel's files, with fewer numbers."""
    if not is_jetson:
        yield absent("jtop", "only on a Jetson")
    elif jtop.trouble:
        reason, _, advice = jtop.trouble.partition(": ")
        yield warning("jtop", f"{reason} (health is read elsewhere)", advice)
    else:
        yield ok("jtop", f"answers with {jtop.numbers} numbers")
