"""The service of jetson-stats: its own protocol, and what goes wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.doctor.jtop import Jtop, ask_jtop, judge_jtop
from tests.conftest import StartService
from tests.health.roots import XAVIER_NX
from tests.health.sysfs_files import write_files


def said(root: Path) -> str:
    (found,) = judge_jtop(ask_jtop(root, SystemClock()), True)
    return f"{found.verdict.value}: {found.words}; {found.fix}"


def test_it_answers(root: Path, start_service: StartService) -> None:
    write_files(root, XAVIER_NX)
    start_service()
    assert said(root).startswith("ok: answers with ")


def test_another_version(root: Path, start_service: StartService) -> None:
    write_files(root, XAVIER_NX)
    start_service("--version", "4.3.2")
    words = said(root)
    assert words.startswith("warning: the service is version 4.3.2, the library here ")
    assert words.endswith("; pip install jetson-stats==4.3.2")


def test_no_socket(root: Path) -> None:
    write_files(root, XAVIER_NX)
    assert said(root).startswith(f"warning: no {root}/run/jtop.sock (health is read elsewhere); ")


@pytest.mark.parametrize("jtop", [Jtop(), Jtop(trouble="x")])
def test_only_a_jetson_has_it(jtop: Jtop) -> None:
    (found,) = judge_jtop(jtop, False)
    assert found.verdict.value == "not here"
