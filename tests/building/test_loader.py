"""Engines that take their time to load, or never do."""

from __future__ import annotations

import threading
import time
from typing import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.loader import LIMIT_S, Loader
from edge.config.schema import EngineConfig
from edge.errors import EngineError, EngineHangs
from edge.geometry import Image
from edge.inference.engine import Engine, Synchronous
from edge.records import EngineInfo

HANG_S = 30.0


class Loaded(Synchronous):
    input_wh = (1, 1)
    info = EngineInfo("loaded", "1", "test", "fp32", 1)
    is_closed = False

    def infer(self, frames: Image) -> NDArray[np.float32]:
        raise AssertionError("nothing is inferred here")

    def close(self) -> None:
        self.is_closed = True


class Held:
    """Opens an engine once it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.has_begun = threading.Event()
        self.engine = Loaded()

    def __call__(self) -> Engine:
        self.has_begun.set()
        assert self.may_end.wait(HANG_S)
        return self.engine


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_is_loaded_is_the_callers() -> None:
    engine = Loaded()
    loader = Loader(threading.Event())
    assert loader.load(lambda: engine) is engine
    assert (engine.is_closed, loader.is_idle) == (False, True)


@pytest.mark.parametrize("error", [EngineError("no numbers"), KeyError("bug")], ids=repr)
def test_what_fails_is_the_callers(error: Exception) -> None:
    def fail() -> Engine:
        raise error

    loader = Loader(threading.Event())
    with pytest.raises(type(error), match=str(error)):
        loader.load(fail)
    assert loader.is_idle


def test_a_device_that_does_not_answer_is_left_and_what_it_brings_later_is_closed() -> None:
    held = Held()
    loader = Loader(threading.Event(), limit_s=0.2)
    with pytest.raises(EngineHangs, match=r"no engine within 0\.2 s of loading: the device hangs"):
        loader.load(held)
    assert (held.engine.is_closed, loader.is_idle) == (False, False)
    held.may_end.set()
    wait_until(lambda: loader.is_idle)
    assert held.engine.is_closed


def test_a_device_that_fails_once_it_was_left_is_forgotten() -> None:
    may_end = threading.Event()

    def fail() -> Engine:
        assert may_end.wait(HANG_S)
        raise EngineError("the device fell off the bus")

    loader = Loader(threading.Event(), limit_s=0.1)
    with pytest.raises(EngineHangs):
        loader.load(fail)
    may_end.set()
    wait_until(lambda: loader.is_idle)


def test_a_stop_does_not_wait_for_the_device() -> None:
    held, stop = Held(), threading.Event()
    loader = Loader(stop)

    def stop_once_it_has_begun() -> None:
        assert held.has_begun.wait(HANG_S)
        stop.set()

    stopping = threading.Thread(target=stop_once_it_has_begun)
    stopping.start()
    assert loader.load(held) is None
    stopping.join(HANG_S)
    assert not loader.is_idle
    held.may_end.set()
    wait_until(lambda: loader.is_idle)
    assert held.engine.is_closed


def test_after_a_stop_nothing_is_begun() -> None:
    held, stop = Held(), threading.Event()
    stop.set()
    assert Loader(stop).load(held) is None
    assert not held.has_begun.is_set()


def test_nobody_who_lets_a_batch_take_longer_has_a_shorter_limit() -> None:
    longest = next(
        limit.le for limit in EngineConfig.model_fields["stall_s"].metadata if hasattr(limit, "le")
    )
    assert longest <= LIMIT_S
