from __future__ import annotations

import json
import threading
from typing import Any, Callable, Iterator, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import SystemClock
from edge.commands.desk import Desk
from edge.commands.reception import MAX_PENDING
from edge.commands.refusal import Refused
from edge.config.commands import CommandsConfig, Verb
from edge.errors import CaptureError
from edge.records.commands import CommandResult, CommandStatus, Inbound, Request
from tests.commands.test_parsing import PAYLOADS, TOPICS
from tests.mosquitto import wait_for

CarryOut = Callable[[Request], str]


class Office:
    """A desk, what it answered, and what it was asked to do."""

    def __init__(self, carry_out: CarryOut, limit_s: float = 30.0) -> None:
        self.answers: List[CommandResult] = []
        self.done: List[Request] = []
        self.failures: List[BaseException] = []

        def act(request: Request) -> str:
            self.done.append(request)
            return carry_out(request)

        self.desk = Desk(
            CommandsConfig(allow=list(Verb), per_minute=600),
            act,
            self.answers.append,
            SystemClock(),
            lambda name, error: self.failures.append(error),
            limit_s,
        )
        self.desk.start()

    def ask(self, verb: str, request_id: str = "1", **keys: Any) -> None:
        payload = json.dumps({"id": request_id, **keys}).encode()
        self.desk.receive(Inbound(f"cmd/{verb}", payload))

    def wait_for_answers(self, count: int) -> None:
        wait_for(lambda: len(self.answers) >= count, f"{count} answers, there are {self.answers}")
        assert len(self.answers) == count

    @property
    def last(self) -> CommandResult:
        return self.answers[-1]


@pytest.fixture
def office() -> Iterator[Callable[..., Office]]:
    made: List[Office] = []

    def make(carry_out: CarryOut, limit_s: float = 30.0) -> Office:
        made.append(Office(carry_out, limit_s))
        return made[-1]

    yield make
    for one in made:
        one.desk.stop(1)
        assert one.failures == []


class Gate:
    """Holds whoever comes until it is opened."""

    def __init__(self) -> None:
        self.is_held = threading.Event()
        self.opened = threading.Event()

    def hold(self, request: Request) -> str:
        self.is_held.set()
        assert self.opened.wait(60)
        return f"{request.verb.value} is done"


def test_requests_are_carried_out_in_order_and_answered(office: Callable[..., Office]) -> None:
    one = office(lambda request: f"did {request.id}")
    for i in range(8):
        one.ask("reload", str(i))
    one.wait_for_answers(8)
    assert [answer.message for answer in one.answers] == [f"did {i}" for i in range(8)]
    assert {answer.status for answer in one.answers} == {CommandStatus.DONE}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        pytest.param(Refused("not now"), CommandStatus.REFUSED, "not now", id="refused"),
        pytest.param(CaptureError("no frame"), CommandStatus.FAILED, "no frame", id="failed"),
        pytest.param(
            ZeroDivisionError("oh"),
            CommandStatus.FAILED,
            "internal error: ZeroDivisionError('oh')",
            id="a fault of ours",
        ),
    ],
)
def test_what_goes_wrong_is_answered_and_the_next_is_carried_out(
    office: Callable[..., Office], error: Exception, status: CommandStatus, words: str
) -> None:
    def carry_out(request: Request) -> str:
        if request.verb is Verb.RELOAD:
            raise error
        return "well"

    one = office(carry_out)
    one.ask("reload", "1")
    one.ask("rebuild", "2")
    one.wait_for_answers(2)
    assert (one.answers[0].status, one.answers[0].message) == (status, words)
    assert one.last.message == "well"


def test_one_at_a_time_and_only_so_many_wait(office: Callable[..., Office]) -> None:
    gate = Gate()
    one = office(gate.hold)
    for i in range(MAX_PENDING):
        one.ask("reload", str(i))
    assert gate.is_held.wait(60)
    one.ask("reload", "more")
    one.wait_for_answers(1)  # at once, from the thread that asks
    assert (one.last.id, one.last.status) == ("more", CommandStatus.REFUSED)
    assert len(one.done) == 1
    gate.opened.set()
    one.wait_for_answers(1 + MAX_PENDING)


def test_a_command_that_hangs_is_answered_and_left_behind(office: Callable[..., Office]) -> None:
    gate = Gate()

    def carry_out(request: Request) -> str:
        return gate.hold(request) if request.verb is Verb.RELOAD else "well"

    one = office(carry_out, limit_s=0.05)
    one.ask("reload", "1")
    one.wait_for_answers(1)
    one.ask("restart", "2")
    one.wait_for_answers(2)
    one.ask("reload", "3")
    one.wait_for_answers(3)
    gate.opened.set()
    wait_for(lambda: "command-reload" not in names_of_threads(), "the thread that hung")
    one.ask("reload", "4")
    one.wait_for_answers(4)
    assert [(answer.status, answer.message) for answer in one.answers] == [
        (CommandStatus.FAILED, "not done after 0.05 s; it may still come to pass"),
        (CommandStatus.DONE, "well"),
        (CommandStatus.REFUSED, "the reload before it still hangs"),
        (CommandStatus.DONE, "reload is done"),
    ]
    assert [request.id for request in one.done] == ["1", "2", "4"]


def names_of_threads() -> List[str]:
    return [thread.name for thread in threading.enumerate()]


def test_the_stop_waits_for_nothing_that_hangs_and_leaves_nothing_unanswered(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.commands.desk.STOP_S", 0.05)
    gate = Gate()
    one = office(gate.hold)
    for i in range(3):
        one.ask("reload", str(i))
    assert gate.is_held.wait(60)
    assert not one.desk.stop(60)
    one.ask("reload", "late")
    answers = {answer.id: (answer.status, answer.message) for answer in one.answers}
    stopping = (CommandStatus.REFUSED, "the appliance is stopping")
    assert answers.pop("0") == (
        CommandStatus.FAILED,
        "the appliance is stopping: nobody knows whether it was done",
    )
    assert answers == {"1": stopping, "2": stopping, "late": stopping}
    gate.opened.set()
    wait_for(lambda: "command-reload" not in names_of_threads(), "the thread that hung")
    wait_for(lambda: "commands" not in names_of_threads(), "the desk's thread")
    assert len(one.answers) == 4


def test_what_is_under_way_may_end_within_the_stop(office: Callable[..., Office]) -> None:
    gate = Gate()
    one = office(gate.hold)
    one.ask("restart")
    assert gate.is_held.wait(60)
    threading.Timer(0.05, gate.opened.set).start()
    assert one.desk.stop(60)
    assert [answer.status for answer in one.answers] == [CommandStatus.DONE]


def test_retained_requests_are_not_answered(office: Callable[..., Office]) -> None:
    one = office(lambda request: "well")
    one.desk.receive(Inbound("cmd/reload", b'{"id": "1"}', is_retained=True))
    one.ask("reload", "2")
    one.wait_for_answers(1)
    assert one.desk.counters().retained == 1
    assert [request.id for request in one.done] == ["2"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(messages=st.lists(st.tuples(TOPICS, PAYLOADS), max_size=MAX_PENDING))
def test_whatever_is_asked_is_answered_once(
    office: Callable[..., Office], messages: List[Any]
) -> None:
    one = office(lambda request: "well")
    for topic, payload in messages:
        one.desk.receive(Inbound(topic, payload))
    wait_for(lambda: len(one.answers) == len(messages), f"answers to {messages}")
    assert one.desk.stop(60)
    assert one.failures == []
    counters = one.desk.counters()
    assert counters.done + counters.refused + counters.repeated == len(messages)
