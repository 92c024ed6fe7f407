from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import pytest

from edge.clock import ManualClock
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.outbox import Outbox
from tests.publish import outbox_crash
from tests.publish.outboxes import limits, take

ROOT = Path(__file__).resolve().parents[2]


def run_and_kill(path: Path, first: int, after_s: float) -> Dict[str, List[int]]:
    """What a process said before it was killed, `after_s` after its first word."""
    child = subprocess.Popen(
        [sys.executable, outbox_crash.__file__, str(path), str(first)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    with child, child.stdout:
        words = child.stdout.read(1)
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        words += child.stdout.read()
    assert child.returncode == -signal.SIGKILL
    said: Dict[str, List[int]] = {"c": [], "t": [], "a": []}
    for line in words.decode().splitlines():
        letter, number = line.split()
        said[letter].append(int(number))
    return said


def drain(path: Path) -> List[int]:
    clock = ManualClock()
    outbox = Outbox(path, limits(), Timekeeper(clock), lambda name, error: None)
    numbers: List[int] = []
    while True:
        clock.advance_ms(1_000)
        outbox.work()
        entries = take(outbox, 1_000)
        if not entries:
            break
        numbers += [int(entry.payload[: len(entry.payload) // 20]) for entry in entries]
        for entry in entries:
            outbox.ack(entry.ticket)
    assert outbox.losses() == []
    assert outbox.status().trouble == ""
    outbox.finish()
    return numbers


@pytest.mark.parametrize("kills", [8, pytest.param(30, marks=pytest.mark.soak)])
def test_killed_at_any_moment_it_keeps_what_it_committed(tmp_path: Path, kills: int) -> None:
    rng = random.Random(7)
    path = tmp_path / "outbox.db"
    committed: List[int] = []
    acknowledged = set()
    for kill in range(kills):
        said = run_and_kill(path, kill * 1_000_000, rng.uniform(0, 0.15))
        assert len(set(said["t"])) == len(said["t"]), "taken twice in one process"
        assert said["t"] == sorted(said["t"])
        assert said["c"] == sorted(said["c"])
        committed += said["c"]
        acknowledged |= set(said["a"])
    left = drain(path)
    assert left == sorted(set(left))
    assert set(committed) - acknowledged <= set(left)
    assert len(committed) > kills
    assert len(acknowledged) > kills
