from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import List, Tuple

import pytest

from edge.commands.refusal import Refused
from edge.errands import Errands
from edge.errors import ConfigError
from edge.threads import call_in_thread
from tests.mosquitto import PATIENCE_S, wait_for


def test_work_is_done_on_the_thread_that_runs_and_in_order() -> None:
    errands = Errands()
    errands.open()
    done: List[Tuple[int, int]] = []

    def ask(number: int) -> Future[int]:
        def work() -> int:
            done.append((number, threading.get_ident()))
            return number

        asked = call_in_thread("asks", lambda: errands.do(work))
        wait_for(lambda: len(errands) > number, "the errand")
        return asked

    asked = [ask(number) for number in range(3)]
    assert done == []
    errands.run()
    assert [future.result(PATIENCE_S) for future in asked] == [0, 1, 2]
    assert done == [(number, threading.get_ident()) for number in range(3)]


def test_an_error_goes_to_who_asked() -> None:
    errands = Errands()
    errands.open()

    def fail() -> None:
        raise ConfigError("nonsense")

    asked = call_in_thread("asks", lambda: errands.do(fail))
    wait_for(lambda: len(errands), "the errand")
    errands.run()
    with pytest.raises(ConfigError, match="nonsense"):
        asked.result(PATIENCE_S)


def test_nothing_is_done_before_and_after() -> None:
    errands = Errands()
    with pytest.raises(Refused, match="still starting"):
        errands.do(lambda: 1)
    errands.open()
    asked = call_in_thread("asks", lambda: errands.do(lambda: 1))
    wait_for(lambda: len(errands), "the errand")
    errands.close()
    wait([asked], PATIENCE_S)
    with pytest.raises(Refused, match="the appliance is stopping"):
        asked.result()
    with pytest.raises(Refused, match="the appliance is stopping"):
        errands.do(lambda: 1)
