from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Callable, Iterator, List, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S, SystemClock
from edge.errors import ProbeError
from edge.health.probes import lines
from edge.health.probes.lines import MAX_LINE_BYTES, Flooded, LineProgram, LineSplitter
from tests.health.probes import programs
from tests.mosquitto import wait_for

# --- lines -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), max_size=15), st.data())
def test_lines_come_out_whole_however_they_arrive(said: List[bytes], data: st.DataObject) -> None:
    said = [line.replace(b"\n", b"") for line in said]
    everything = b"".join(line + b"\n" for line in said) + b"rest"
    splitter = LineSplitter(NS_PER_S)
    heard: List[str] = []
    while everything:
        size = data.draw(st.integers(1, len(everything)))
        heard += splitter.feed(0, everything[:size])
        everything = everything[size:]
    assert heard == [line.decode(errors="replace") for line in said]


def test_a_flood_is_more_than_20_lines_in_an_interval() -> None:
    splitter = LineSplitter(NS_PER_S)
    assert len(splitter.feed(0, b"x\n" * 20)) == 20
    with pytest.raises(Flooded, match="21 lines"):
        splitter.feed(NS_PER_S - 1, b"x\n")


def test_every_interval_has_its_20_lines() -> None:
    splitter = LineSplitter(NS_PER_S)
    for second in range(10):
        assert len(splitter.feed(second * NS_PER_S, b"x\n" * 20)) == 20


def test_no_line_may_be_longer_than_memory_is_worth() -> None:
    splitter = LineSplitter(NS_PER_S)
    splitter.feed(0, b"x" * MAX_LINE_BYTES)
    with pytest.raises(Flooded, match="bytes"):
        splitter.feed(0, b"x")


# --- programs ----------------------------------------------------------------------------------


class Listening:
    """Takes every line that is not empty for useful."""

    def __init__(self) -> None:
        self.lines: List[str] = []
        self.reasons: List[str] = []

    def said(self, line: str) -> bool:
        self.lines.append(line)
        return line.startswith("APE")

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)


Start = Callable[[Callable[[], Sequence[str]]], LineProgram]


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def start(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Runs a program with short patience."""
    monkeypatch.setattr(lines, "_RETRY_S", (0.01, 0.05))
    monkeypatch.setattr(lines, "_FIRST_LINE_S", 2.0)
    monkeypatch.setattr(lines, "_ENDING_S", 0.2)
    deaths: List[BaseException] = []
    running: List[LineProgram] = []

    def begin(command: Callable[[], Sequence[str]]) -> LineProgram:
        program = LineProgram(
            "test", command, 0.2, listening, SystemClock(), lambda name, error: deaths.append(error)
        )
        program.start()
        running.append(program)
        return program

    yield begin
    assert all(program.stop(30) for program in running)
    assert not deaths


def program(tmp_path: Path, body: str) -> Callable[[], Sequence[str]]:
    path = programs.write_program(tmp_path / "program", body)
    return lambda: [str(path)]


def test_a_program_that_speaks_is_heard(tmp_path: Path, listening: Listening, start: Start) -> None:
    running = start(program(tmp_path, programs.SPEAKS))
    wait_for(lambda: len(listening.lines) >= 3, "three lines")
    assert set(listening.lines) == {"APE 150"}
    running.start()  # again, which changes nothing
    assert running.starts == 1
    assert running.is_running
    assert running.stop(30)
    assert not running.is_running
    assert listening.reasons == []


REASONS = {
    "ends": (programs.ENDS, "it ended with code 3: cannot open the sensors"),
    "is silent": (programs.SILENT, "it says nothing of use"),
    "falls silent": (programs.SPEAKS_ONCE, "it has fallen silent"),
    "floods": (programs.FLOODS, "lines at once"),
    "says a line without end": (programs.ENDLESS_LINE, "a line of more than 65536 bytes"),
    "closes its output": (programs.CLOSES_ITS_OUTPUT, "it closed its output and goes on"),
}


@pytest.mark.parametrize(("body", "reason"), REASONS.values(), ids=REASONS)
def test_a_program_that_fails_is_started_again(
    body: str, reason: str, tmp_path: Path, listening: Listening, start: Start
) -> None:
    path = programs.write_program(tmp_path / "program", body)
    running = start(lambda: [str(path)])
    wait_for(lambda: listening.reasons, "a reason")
    assert reason in listening.reasons[0]
    programs.write_program(path, programs.SPEAKS)
    heard = len(listening.lines)
    wait_for(lambda: len(listening.lines) > heard + 5, "it to speak again")
    assert running.starts >= 2


def test_a_program_that_is_killed_is_started_again(
    tmp_path: Path, listening: Listening, start: Start
) -> None:
    start(program(tmp_path, "echo $$; " + programs.SPEAKS))
    wait_for(lambda: len(listening.lines) >= 2, "its number")
    os.kill(int(listening.lines[0]), signal.SIGKILL)
    wait_for(lambda: listening.reasons, "its end")
    assert listening.reasons[0].startswith("it was ended by signal 9")
    wait_for(lambda: sum(line.isdigit() for line in listening.lines) >= 2, "the next")


def test_what_a_program_leaves_behind_is_ended_with_it(
    tmp_path: Path, listening: Listening, start: Start
) -> None:
    body = "sleep 60 & echo $!; " + programs.SILENT
    running = start(program(tmp_path, body))
    wait_for(lambda: listening.lines, "the child's number")
    child = Path("/proc") / listening.lines[0]
    assert running.stop(30)
    wait_for(lambda: not child.exists() or " Z " in (child / "stat").read_text(), "its end")


MISSING = {
    "no such file": ("/no/such/program", "it cannot be run: No such file or directory"),
    "no program": ("/dev/null", "it cannot be run: Permission denied"),
}


@pytest.mark.parametrize(("path", "reason"), MISSING.values(), ids=MISSING)
def test_what_cannot_be_run_is_said(
    path: str, reason: str, listening: Listening, start: Start
) -> None:
    running = start(lambda: [path])
    wait_for(lambda: len(listening.reasons) >= 2, "two attempts")
    assert set(listening.reasons) == {reason}
    assert running.starts == 0


def test_what_is_of_no_use_is_not_run(listening: Listening, start: Start) -> None:
    def command() -> Sequence[str]:
        raise ProbeError("it is not here: install it")

    start(command)
    wait_for(lambda: len(listening.reasons) >= 2, "two attempts")
    assert set(listening.reasons) == {"it is not here: install it"}


def test_it_can_be_stopped_and_started_again(
    tmp_path: Path, listening: Listening, start: Start
) -> None:
    running = start(program(tmp_path, programs.SPEAKS))
    wait_for(lambda: listening.lines, "a line")
    for count in (2, 3):
        assert running.stop(30)
        listening.lines.clear()
        running.start()
        wait_for(lambda: listening.lines, "a line")
        assert running.starts == count


def test_stop_during_a_pause_is_at_once(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    monkeypatch.setattr(lines, "_RETRY_S", (3600.0, 3600.0))
    running = start(lambda: ["/no/such/program"])
    wait_for(lambda: listening.reasons, "the pause")
    assert running.stop(30)


def test_no_thread_is_left(tmp_path: Path, start: Start) -> None:
    running = start(program(tmp_path, programs.SPEAKS))
    assert running.stop(30)
    assert "health-test" not in {thread.name for thread in threading.enumerate()}
