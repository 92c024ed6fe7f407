"""What the supervisor hears, on a real socket."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest

from edge.clock import NS_PER_MS, NS_PER_S
from edge.notify import Supervisor, is_alive
from tests.supervisor import Ear

PID = 4711
INTERVAL_US = 20_000_000


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    listening = Ear(str(tmp_path / "notify"))
    yield listening
    listening.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


def test_the_story_of_a_service(ear: Ear, address: str) -> None:
    supervisor = Supervisor(address, INTERVAL_US)
    supervisor.starting()
    supervisor.status("building: loading the model")
    supervisor.ready()
    supervisor.alive(5 * NS_PER_S)
    supervisor.starting()  # it has started: nothing may be put off any more
    supervisor.reloading(6_000_000_500)
    supervisor.ready()
    supervisor.stopping()
    assert ear.heard() == [
        "EXTEND_TIMEOUT_USEC=3600000000",
        "STATUS=building: loading the model",
        "READY=1",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=6000000",
        "READY=1",
        "STOPPING=1",
    ]


def test_a_name_that_is_no_file() -> None:
    ear = Ear("@edge-test-notify")
    try:
        Supervisor("@edge-test-notify").ready()
        assert ear.heard() == ["READY=1"]
    finally:
        ear.close()


@pytest.mark.parametrize(
    ("after_ms", "is_told"),
    [
        pytest.param(0, False, id="the same moment"),
        pytest.param(4_999, False, id="a little less than a quarter"),
        pytest.param(5_000, True, id="a quarter"),
        pytest.param(60_000, True, id="late"),
    ],
)
def test_alive_is_told_four_times_an_interval(
    after_ms: int, is_told: bool, ear: Ear, address: str
) -> None:
    supervisor = Supervisor(address, INTERVAL_US)
    supervisor.alive(NS_PER_S)
    ear.heard()
    supervisor.alive(NS_PER_S + after_ms * NS_PER_MS)
    assert ear.heard() == (["WATCHDOG=1"] if is_told else [])


def test_who_does_not_watch_is_not_told(ear: Ear, address: str) -> None:
    Supervisor(address).alive(NS_PER_S)
    assert ear.heard() == []


def test_a_status_is_one_line_and_told_once(ear: Ear, address: str) -> None:
    supervisor = Supervisor(address)
    supervisor.status("degraded: camera belt\nREADY=1  offline")
    supervisor.status("degraded: camera belt READY=1 offline")
    supervisor.status("ready")
    assert ear.heard() == ["STATUS=degraded: camera belt READY=1 offline", "STATUS=ready"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, [], id="nobody"),
        pytest.param({"NOTIFY_SOCKET": ""}, [], id="empty"),
        pytest.param({"NOTIFY_SOCKET": "{}"}, ["READY=1"], id="not watched"),
        pytest.param(
            {"NOTIFY_SOCKET": "{}", "WATCHDOG_USEC": "30000000"},
            ["READY=1", "WATCHDOG=1"],
            id="watched",
        ),
        pytest.param(
            {"NOTIFY_SOCKET": "{}", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)},
            ["READY=1", "WATCHDOG=1"],
            id="this process is watched",
        ),
        pytest.param(
            {"NOTIFY_SOCKET": "{}", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
            ["READY=1"],
            id="another process is watched",
        ),
        pytest.param({"NOTIFY_SOCKET": "{}", "WATCHDOG_USEC": "0"}, ["READY=1"], id="no interval"),
        pytest.param({"NOTIFY_SOCKET": "{}", "WATCHDOG_USEC": "soon"}, ["READY=1"], id="no number"),
    ],
)
def test_the_environment_says_who_listens(
    environ: Dict[str, str], expected: List[str], ear: Ear, address: str
) -> None:
    filled = {key: value.format(address) for key, value in environ.items()}
    supervisor = Supervisor.from_environment(filled, PID)
    supervisor.ready()
    supervisor.alive(NS_PER_S)
    assert ear.heard() == expected


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("{}/nobody", id="nobody listens"),
        pytest.param("{}/" + "n" * 200, id="too long a name"),
    ],
)
def test_a_supervisor_that_cannot_be_told_is_named_once(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(address.format(tmp_path), INTERVAL_US)
    with caplog.at_level(logging.WARNING):
        supervisor.ready()
        supervisor.alive(NS_PER_S)
    (record,) = caplog.records
    assert "cannot be told: " in record.getMessage()


def test_ready_is_told_again_where_nobody_heard_it(tmp_path: Path, address: str) -> None:
    supervisor = Supervisor(address, INTERVAL_US)
    supervisor.ready()
    late = Ear(address)
    try:
        supervisor.alive(NS_PER_S)
        supervisor.alive(10 * NS_PER_S)
        assert late.heard() == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    finally:
        late.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("100000000000\n", True, id="now"),
        pytest.param("40000000000\n", True, id="just in time"),
        pytest.param("39999999999\n", False, id="too long ago"),
        pytest.param("100000000001\n", False, id="before a restart of the machine"),
        pytest.param("", False, id="empty"),
        pytest.param("soon", False, id="no number"),
        pytest.param("\xff", False, id="damaged"),
        pytest.param(None, False, id="no file"),
    ],
)
def test_who_may_only_look(content: Optional[str], expected: bool, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    if content is not None:
        file.write_text(content, "latin-1")
    assert is_alive(file, now_ns=100 * NS_PER_S, limit_s=60) is expected


def test_the_file_is_written_without_a_socket(tmp_path: Path) -> None:
    file = tmp_path / "run" / "alive"
    supervisor = Supervisor.from_environment({"EDGE_ALIVE_FILE": str(file)}, PID)
    supervisor.alive(7 * NS_PER_S)
    assert is_alive(file, 7 * NS_PER_S, limit_s=0)
    supervisor.alive(12 * NS_PER_S)
    assert is_alive(file, 12 * NS_PER_S, limit_s=0)


def test_a_file_that_cannot_be_written_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("")
    supervisor = Supervisor(alive_file=tmp_path / "run" / "alive")
    with caplog.at_level(logging.WARNING):
        supervisor.alive(NS_PER_S)
        supervisor.alive(60 * NS_PER_S)
    (record,) = caplog.records
    assert "cannot be written: " in record.getMessage()
