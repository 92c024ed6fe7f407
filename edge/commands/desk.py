"""The thread that carries commands out, one after the other."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Callable, Dict, Optional, Tuple

from edge.clock import Clock
from edge.commands.reception import Admission, Reception
from edge.commands.refusal import Refused
from edge.config.commands import CommandsConfig, Verb
from edge.config.faults import printable
from edge.errors import EdgeError
from edge.records.commands import (
    CommandCounters,
    CommandResult,
    CommandStatus,
    Inbound,
    Request,
)
from edge.threads import OnFailure, SupervisedThread, call_in_thread, drain

log = logging.getLogger(__name__)

# A command that takes longer is answered as failed and left behind.
LIMIT_S = 30.0

# Of the shutdown's time: what is under way may still end.
STOP_S = 1.0

CarryOut = Callable[[Request], str]
"""Does what is asked for and says so in words; EdgeError says why not."""

Answer = Callable[[CommandResult], None]
"""Sends an answer; must return at once."""


class Desk:
    """Takes requests, has them carried out one at a time, answers every one.

    A command that hangs is answered and left behind with its thread; until that comes back, its
    verb is refused.
    """

    def __init__(
        self,
        config: CommandsConfig,
        carry_out: CarryOut,
        answer: Answer,
        clock: Clock,
        on_failure: OnFailure,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._carry_out = carry_out
        self._answer = answer
        self._clock = clock
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._reception = Reception(config)
        self._admitted: SimpleQueue[Optional[Admission]] = SimpleQueue()
        self._under_way: Optional[Admission] = None
        self._hanging: Dict[Verb, Future[str]] = {}
        self._thread = SupervisedThread("commands", self._run, on_failure)

    def recall(self, request: Request, message: str) -> None:
        """Remembers as done what an earlier process was asked."""
        with self._lock:
            self._reception.recall(request, message)

    def start(self) -> None:
        """Begins to carry out what was admitted."""
        self._thread.start()

    def receive(self, message: Inbound) -> None:
        """Takes a request from the broker; from any thread, at once."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            decision = self._reception.admit(message, now_ns)
            # Under the lock: `stop` must find all that was admitted before it.
            if isinstance(decision, Admission):
                self._admitted.put(decision)
        if decision is None:
            log.warning("%s ignored: the broker retains it", printable(message.topic))
        elif isinstance(decision, CommandResult):
            # Not louder: how often is up to whoever asks.
            log.debug("%s: %s", printable(decision.topic), decision.message)
            self._answer(decision)

    def stop(self, timeout_s: float) -> bool:
        """Refuses what waits and what still comes; False if a command was left under way."""
        with self._lock:
            self._reception.close()
        for admission in drain(self._admitted):
            if admission is not None:
                self._finish(admission, CommandStatus.REFUSED, "the appliance is stopping")
        self._admitted.put(None)
        has_ended = self._thread.join(min(timeout_s, STOP_S))
        under_way = self._under_way
        if not has_ended and under_way is not None:
            words = "the appliance is stopping: nobody knows whether it was done"
            self._finish(under_way, CommandStatus.FAILED, words)
        return has_ended

    def counters(self) -> CommandCounters:
        """What became of all requests."""
        with self._lock:
            return self._reception.counters

    def _run(self) -> None:
        for admission in iter(self._admitted.get, None):
            self._under_way = admission
            self._finish(admission, *self._outcome(admission.request))
            self._under_way = None

    def _outcome(self, request: Request) -> Tuple[CommandStatus, str]:
        verb = request.verb
        before = self._hanging.get(verb)
        if before is not None and not before.done():
            return CommandStatus.REFUSED, f"the {verb.value} before it still hangs"
        work = call_in_thread(f"command-{verb.value}", lambda: self._carry_out(request))
        wait([work], self._limit_s)
        if work.done():
            return _words(work)
        self._hanging[verb] = work
        work.add_done_callback(lambda _: log.info("command %s has ended after all", verb.value))
        words = f"not done after {self._limit_s:g} s; it may still come to pass"
        return CommandStatus.FAILED, words

    def _finish(self, admission: Admission, status: CommandStatus, message: str) -> None:
        with self._lock:
            result = self._reception.finish(admission, status, message)
        if result is not None:
            level = logging.WARNING if status is CommandStatus.FAILED else logging.INFO
            log.log(level, "%s: %s: %s", result.topic, status.value, message)
            self._answer(result)


def _words(work: Future[str]) -> Tuple[CommandStatus, str]:
    error = work.exception()
    if error is None:
        return CommandStatus.DONE, work.result()
    if isinstance(error, Refused):
        return CommandStatus.REFUSED, str(error)
    if not isinstance(error, EdgeError):
        log.error("a command failed", exc_info=error)
        return CommandStatus.FAILED, f"internal error: {error!r}"
    return CommandStatus.FAILED, str(error)
