"""Who is let in: what is allowed, new, not too much, and asked for in the right way."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import replace
from typing import Counter as CounterOf
from typing import Optional, Union

from edge.commands.parsing import parse
from edge.commands.rate import RateLimit
from edge.commands.refusal import Refused
from edge.config.commands import CommandsConfig, Verb
from edge.records.commands import (
    CommandCounters,
    CommandResult,
    CommandStatus,
    Inbound,
    Request,
)

# Waiting and under way together.
MAX_PENDING = 16

# A sender that lost its connection sends again what was not acknowledged, and its broker tells it
# twice: minutes later, not days.
MAX_REMEMBERED = 256

# Longer, a topic is cut in the answer.
_MAX_TOPIC_CHARS = 256


class Admission:
    """A request that is to be carried out, and answered once."""

    def __init__(self, topic: str, request: Request) -> None:
        self.topic = topic
        self.request = request
        self.result: Optional[CommandResult] = None


class Reception:
    """Decides on every request, and remembers those with an id for when they come again; pure.

    Whatever is admitted is to be finished.
    """

    def __init__(self, config: CommandsConfig) -> None:
        self._allowed = frozenset(config.allow)
        self._per_minute = config.per_minute
        self._rate = RateLimit(config.per_minute)
        self._known: OrderedDict[str, Admission] = OrderedDict()
        self._pending = 0
        self._is_closed = False
        self._answered: CounterOf[CommandStatus] = Counter()
        self._repeated = 0
        self._retained = 0

    def admit(self, message: Inbound, now_ns: int) -> Union[Admission, CommandResult, None]:
        """An admission, or else what is to be answered; None for what is retained.

        That was asked of whoever was there at the time, and would come again with every
        connection.
        """
        if message.is_retained:
            self._retained += 1
            return None
        topic = message.topic[:_MAX_TOPIC_CHARS]
        try:
            request = parse(message)
            return self._repeated_answer(topic, request) or self._accept(topic, request, now_ns)
        except Refused as refusal:
            self._answered[CommandStatus.REFUSED] += 1
            return CommandResult(
                topic,
                CommandStatus.REFUSED,
                str(refusal),
                refusal.verb,
                refusal.request_id,
                refusal.camera,
            )

    def finish(
        self, admission: Admission, status: CommandStatus, message: str
    ) -> Optional[CommandResult]:
        """What to answer; None where it was answered before, as it took too long."""
        if admission.result is not None:
            return None
        request = admission.request
        self._pending -= 1
        self._answered[status] += 1
        admission.result = CommandResult(
            admission.topic, status, message, request.verb, request.id, request.subject
        )
        return admission.result

    def recall(self, request: Request, message: str) -> None:
        """Remembers as done what an earlier process was asked."""
        topic = f"cmd/{request.verb.value}"
        admission = Admission(topic, request)
        admission.result = CommandResult(
            topic, CommandStatus.DONE, message, request.verb, request.id, request.subject
        )
        self._remember(admission)

    def close(self) -> None:
        """Refuses all that still comes."""
        self._is_closed = True

    @property
    def counters(self) -> CommandCounters:
        """What became of all requests."""
        return CommandCounters(
            done=self._answered[CommandStatus.DONE],
            refused=self._answered[CommandStatus.REFUSED],
            failed=self._answered[CommandStatus.FAILED],
            repeated=self._repeated,
            retained=self._retained,
        )

    def _repeated_answer(self, topic: str, request: Request) -> Optional[CommandResult]:
        known = None if request.id is None else self._known.get(request.id)
        if known is None:
            return None
        if known.request != request:
            raise _refusal(
                request, "this id was used before, for another request: give each its own"
            )
        self._repeated += 1
        if known.result is not None:
            return replace(known.result, is_repeated=True)
        return CommandResult(
            topic,
            CommandStatus.RUNNING,
            "it came before and is not done yet; its answer follows",
            request.verb,
            request.id,
            request.subject,
            is_repeated=True,
        )

    def _accept(self, topic: str, request: Request, now_ns: int) -> Admission:
        why_not = self._why_not(request.verb, now_ns)
        if why_not:
            raise _refusal(request, why_not)
        self._rate.admit(now_ns)
        self._pending += 1
        admission = Admission(topic, request)
        self._remember(admission)
        return admission

    def _why_not(self, verb: Verb, now_ns: int) -> str:
        if self._is_closed:
            return "the appliance is stopping"
        if verb not in self._allowed:
            return f"{verb.value} is not allowed: add it to commands.allow"
        if self._pending >= MAX_PENDING:
            return f"{self._pending} commands wait already: try again later"
        wait_s = self._rate.wait_s(now_ns)
        if wait_s:
            return f"more than {self._per_minute} commands in a minute: wait {wait_s} s"
        return ""

    def _remember(self, admission: Admission) -> None:
        # What is pending is never forgotten: that is far less than what is remembered.
        if admission.request.id is not None:
            self._known[admission.request.id] = admission
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)


def _refusal(request: Request, reason: str) -> Refused:
    return Refused(reason, request.verb, request.id, request.subject)
