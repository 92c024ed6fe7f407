from __future__ import annotations

import json
from typing import Any, List, Optional

import pytest

from edge.clock import NS_PER_S
from edge.commands.reception import MAX_PENDING, MAX_REMEMBERED, Admission, Reception
from edge.config.commands import CommandsConfig, Verb
from edge.records.commands import (
    CommandCounters,
    CommandResult,
    CommandStatus,
    Inbound,
    Restart,
)

ALL = list(Verb)


def reception(*, allow: Optional[List[Verb]] = None, per_minute: int = 600) -> Reception:
    return Reception(CommandsConfig(allow=ALL if allow is None else allow, per_minute=per_minute))


def ask(verb: str, request_id: str = "1", **keys: Any) -> Inbound:
    return Inbound(f"cmd/{verb}", json.dumps({"id": request_id, **keys}).encode())


def admitted(desk: Reception, message: Inbound, now_ns: int = 0) -> Admission:
    decision = desk.admit(message, now_ns)
    assert isinstance(decision, Admission), decision
    return decision


def refused(desk: Reception, message: Inbound, now_ns: int = 0) -> CommandResult:
    decision = desk.admit(message, now_ns)
    assert isinstance(decision, CommandResult), decision
    return decision


def test_what_is_allowed_is_admitted_and_answered_once() -> None:
    desk = reception()
    admission = admitted(desk, ask("enable", "7", camera="dock"))
    result = desk.finish(admission, CommandStatus.DONE, "camera dock is enabled")
    assert result == CommandResult(
        "cmd/enable", CommandStatus.DONE, "camera dock is enabled", Verb.ENABLE, "7", "dock"
    )
    assert desk.finish(admission, CommandStatus.FAILED, "too late") is None
    assert desk.counters == CommandCounters(done=1)


def test_what_is_not_allowed_is_refused_with_what_to_do() -> None:
    desk = reception(allow=[Verb.RELOAD])
    admitted(desk, ask("reload"))
    result = refused(desk, ask("restart", "2"))
    assert (result.status, result.verb, result.id) == (CommandStatus.REFUSED, Verb.RESTART, "2")
    assert result.message == "restart is not allowed: add it to commands.allow"
    assert refused(desk, Inbound("camera/dock/enabled/set", b"ON")).verb is Verb.ENABLE
    assert desk.counters == CommandCounters(refused=2)


def test_what_is_no_request_is_answered_too() -> None:
    desk = reception()
    result = refused(desk, Inbound("cmd/" + "x" * 1000, b"?"))
    assert (result.verb, result.id, len(result.topic)) == (None, None, 256)
    assert refused(desk, ask("enable", "9")).id == "9"
    assert desk.counters == CommandCounters(refused=2)


def test_what_the_broker_retains_is_ignored_and_counted() -> None:
    desk = reception()
    message = ask("restart")
    assert desk.admit(Inbound(message.topic, message.payload, is_retained=True), 0) is None
    assert desk.counters == CommandCounters(retained=1)
    admitted(desk, message)


@pytest.mark.parametrize("status", [CommandStatus.DONE, CommandStatus.FAILED])
def test_a_request_that_comes_again_is_answered_again_and_not_run_twice(
    status: CommandStatus,
) -> None:
    desk = reception(per_minute=1)
    admission = admitted(desk, ask("reload"))
    running = refused(desk, ask("reload"))
    assert (running.status, running.is_repeated, running.id) == (CommandStatus.RUNNING, True, "1")
    desk.finish(admission, status, "the words")
    again = refused(desk, ask("reload"))
    assert (again.status, again.message, again.is_repeated) == (status, "the words", True)
    assert desk.counters.repeated == 2
    assert desk.counters.refused == 0


def test_an_id_stands_for_one_request() -> None:
    desk = reception()
    admitted(desk, ask("enable", "1", camera="dock"))
    for other in (ask("disable", "1", camera="dock"), ask("enable", "1", camera="belt")):
        assert "used before, for another request" in refused(desk, other).message
    admitted(desk, ask("enable", "2", camera="dock"))


def test_a_request_that_was_refused_may_come_again() -> None:
    desk = reception(per_minute=1)
    desk.finish(admitted(desk, ask("reload", "1")), CommandStatus.DONE, "")
    assert "in a minute: wait 60 s" in refused(desk, ask("reload", "2")).message
    admitted(desk, ask("reload", "2"), 60 * NS_PER_S)


def test_settings_are_told_apart_by_nothing() -> None:
    desk = reception()
    message = Inbound("camera/dock/enabled/set", b"ON")
    first, second = admitted(desk, message), admitted(desk, message)
    result = desk.finish(first, CommandStatus.DONE, "")
    assert result is not None
    assert (result.id, result.camera, result.topic) == (None, "dock", "camera/dock/enabled/set")
    assert desk.finish(second, CommandStatus.DONE, "") is not None


def test_only_so_many_wait() -> None:
    desk = reception()
    waiting = [admitted(desk, ask("reload", str(i))) for i in range(MAX_PENDING)]
    result = refused(desk, ask("reload", "more"))
    assert f"{MAX_PENDING} commands wait already" in result.message
    desk.finish(waiting[0], CommandStatus.DONE, "")
    admitted(desk, ask("reload", "more"))


def test_old_ids_are_forgotten_and_new_ones_are_not() -> None:
    desk = reception()
    for i in range(MAX_REMEMBERED):
        now_ns = i * NS_PER_S
        desk.finish(admitted(desk, ask("reload", str(i)), now_ns), CommandStatus.DONE, "")
    assert refused(desk, ask("reload", "0")).is_repeated
    desk.finish(admitted(desk, ask("reload", "x"), now_ns), CommandStatus.DONE, "")
    assert refused(desk, ask("reload", "1")).is_repeated
    admitted(desk, ask("reload", "0"), now_ns)


def test_what_an_earlier_process_was_asked_is_not_done_again() -> None:
    desk = reception()
    desk.recall(Restart(id="1"), "it has been restarted")
    result = refused(desk, ask("restart", "1"))
    assert (result.status, result.message, result.is_repeated) == (
        CommandStatus.DONE,
        "it has been restarted",
        True,
    )
    admitted(desk, ask("restart", "2"))


def test_once_closed_everything_is_refused_and_what_came_before_is_finished() -> None:
    desk = reception()
    admission = admitted(desk, ask("reload"))
    desk.close()
    assert refused(desk, ask("reload", "2")).message == "the appliance is stopping"
    assert desk.finish(admission, CommandStatus.DONE, "") is not None


def test_counters_add_up() -> None:
    desk = reception(per_minute=3)
    for i in range(8):
        decision = desk.admit(ask("reload", str(i % 5)), 0)
        if isinstance(decision, Admission):
            desk.finish(decision, CommandStatus.DONE, "")
    assert desk.counters == CommandCounters(done=3, refused=2, repeated=3)
