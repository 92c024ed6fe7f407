from __future__ import annotations

import os
import signal
from typing import Iterator

import pytest

from edge.process import Hangups


@pytest.fixture
def hangups() -> Iterator[Hangups]:
    before = signal.getsignal(signal.SIGHUP)
    yield Hangups()
    signal.signal(signal.SIGHUP, before)


def test_hangups_are_remembered_and_several_count_as_one(hangups: Hangups) -> None:
    assert not hangups.take()
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
    assert hangups.take()
    assert not hangups.take()
    os.kill(os.getpid(), signal.SIGHUP)
    assert hangups.take()
