from __future__ import annotations

import ctypes
import gc
import logging
import threading
import weakref
from concurrent.futures import wait
from queue import SimpleQueue
from typing import Callable, List, Optional, Tuple, Type

import pytest

from edge.threads import CallThread, SupervisedThread, call_in_thread, drain, sharpen_timers

Failures = List[Tuple[str, BaseException]]
PATIENCE_S = 30.0


def start(name: str, body: Body, failures: Failures) -> SupervisedThread:
    thread = SupervisedThread(name, body, lambda name, error: failures.append((name, error)))
    thread.start()
    return thread


class Body:
    """Runs until told to stop, then ends as told."""

    def __init__(self, *errors: BaseException) -> None:
        self.stop = threading.Event()
        self._errors = errors

    def __call__(self) -> None:
        self.stop.wait(PATIENCE_S)
        for error in self._errors:
            raise error


def test_a_body_that_returns_is_no_failure() -> None:
    failures: Failures = []
    body = Body()
    thread = start("worker", body, failures)
    assert thread.is_alive

    body.stop.set()

    assert thread.join(PATIENCE_S)
    assert not thread.is_alive
    assert failures == []


@pytest.mark.parametrize("kind", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
def test_whatever_escapes_is_reported_with_the_threads_name(
    kind: Type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    failures: Failures = []
    error = kind("broken")
    body = Body(error)
    body.stop.set()

    assert start("reader dock", body, failures).join(PATIENCE_S)

    assert failures == [("reader dock", error)]
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert record.getMessage() == "thread reader dock died: broken"


def test_join_tells_that_a_thread_still_runs() -> None:
    failures: Failures = []
    body = Body()
    thread = start("worker", body, failures)
    assert not thread.join(0.01)
    assert not thread.join(-1.0)
    body.stop.set()
    assert thread.join(PATIENCE_S)


def test_a_thread_that_never_started_is_joined_at_once() -> None:
    thread = SupervisedThread("idle", Body(), lambda name, error: None)
    assert thread.join(PATIENCE_S)
    assert not thread.is_alive


def test_a_thread_does_not_wait_for_itself() -> None:
    answers: List[bool] = []
    threads: List[SupervisedThread] = []
    ready = threading.Event()

    def join_myself() -> None:
        ready.wait(PATIENCE_S)
        answers.append(threads[0].join(PATIENCE_S))

    failures: Failures = []
    threads.append(
        SupervisedThread("self", join_myself, lambda name, error: failures.append((name, error)))
    )
    threads[0].start()
    ready.set()

    assert threads[0].join(PATIENCE_S)
    assert answers == [False]
    assert failures == []


def test_a_hung_thread_does_not_keep_the_process_alive() -> None:
    seen: List[bool] = []
    thread = SupervisedThread(
        "daemon", lambda: seen.append(threading.current_thread().daemon), lambda name, error: None
    )
    thread.start()
    assert thread.join(PATIENCE_S)
    assert seen == [True]


def test_timers_are_sharp_in_the_thread_that_asked_and_in_no_other() -> None:
    get_timer_slack = 30  # PR_GET_TIMERSLACK
    libc = ctypes.CDLL(None)
    slack_ns: List[int] = []

    def ask() -> None:
        sharpen_timers()
        slack_ns.append(libc.prctl(get_timer_slack))

    before_ns = libc.prctl(get_timer_slack)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(30)
    assert slack_ns == [1]
    assert libc.prctl(get_timer_slack) == before_ns


def test_a_call_in_a_thread_of_its_own_gives_what_it_gives() -> None:
    answer = call_in_thread("lookup", lambda: threading.current_thread())
    thread = answer.result(PATIENCE_S)
    assert (thread.name, thread.daemon) == ("lookup", True)


def test_a_call_in_a_thread_of_its_own_need_not_be_waited_for() -> None:
    gate = threading.Event()
    answer = call_in_thread("lookup", lambda: gate.wait(PATIENCE_S))
    assert wait((answer,), 0.01).not_done == {answer}
    gate.set()
    assert answer.result(PATIENCE_S) is True


class Fault(Exception):
    """Can be referred to weakly."""


def fail(kind: Type[BaseException] = Fault) -> Callable[[], None]:
    def work() -> None:
        raise kind("no")

    return work


def test_a_call_thread_does_one_thing_after_the_other_and_goes_on_after_an_error() -> None:
    thread = CallThread("session")
    names = [thread.call(lambda: threading.current_thread().name) for _ in range(2)]
    with pytest.raises(Fault, match="no"):
        thread.call(fail())
    with pytest.raises(KeyboardInterrupt):
        thread.call(fail(KeyboardInterrupt))
    assert thread.call(lambda: 7) == 7
    thread.close()
    thread.close()
    assert names == ["session", "session"]


def test_an_error_of_a_call_thread_is_gone_when_it_was_dealt_with() -> None:
    """What its frames hold, a GPU's memory say, must not wait for the collector."""
    thread = CallThread("session")
    gone: Optional[weakref.ref[Fault]] = None
    gc.disable()
    try:
        try:
            thread.call(fail())
        except Fault as error:
            gone = weakref.ref(error)
        thread.call(lambda: None)
        assert gone is not None
        assert gone() is None
    finally:
        gc.enable()
        thread.close()


def test_what_waits_in_a_queue_is_taken_in_order() -> None:
    queue: SimpleQueue[int] = SimpleQueue()
    assert drain(queue) == []
    for number in range(3):
        queue.put(number)
    assert drain(queue) == [0, 1, 2]
    assert queue.empty()
