"""The package's own client against its own protocol: see `jtop_service.py`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import List, Mapping, Sequence

import pytest

from edge.errors import ProbeError
from edge.health.probes.jtop_readings import JtopReader, command, numbers_of
from tests.conftest import StartService
from tests.health.probes.test_jtop_readings import XAVIER_NX_NUMBERS

CLIENT = [sys.executable, "-m", "edge.health.probes.jtop_client"]
_PATIENCE_S = 60


def first_line(root: Path, prefix: Sequence[str] = ()) -> str:
    """The first thing the client says of the service under `root`."""
    client = subprocess.Popen(
        [*prefix, *CLIENT, str(root / "run/jtop.sock"), "0.5"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert client.stdout is not None
        with client.stdout as lines:
            return lines.readline()
    finally:
        client.kill()
        client.wait(_PATIENCE_S)


def explained(root: Path, prefix: Sequence[str] = ()) -> str:
    """What the appliance makes of the client's complaint."""
    with pytest.raises(ProbeError) as caught:
        JtopReader(patience_s=5)(0, first_line(root, prefix))
    return str(caught.value)


def test_its_readings_arrive(root: Path, start_service: StartService) -> None:
    start_service()
    said: Mapping[str, object] = json.loads(first_line(root))
    assert numbers_of(said) == XAVIER_NX_NUMBERS


def test_another_version_is_told_with_what_to_install(
    root: Path, start_service: StartService
) -> None:
    start_service("--version", "4.3.2")
    words = explained(root)
    assert words.startswith("the service is version 4.3.2, the library here ")
    assert words.endswith("pip install jetson-stats==4.3.2")


def test_a_version_that_differs_in_its_last_number_is_the_same(
    root: Path, start_service: StartService
) -> None:
    major, minor = metadata.version("jetson-stats").split(".")[:2]
    start_service("--version", f"{major}.{minor}.99")
    assert "uptime_s" in json.loads(first_line(root))


def test_another_python_is_recognized(root: Path, start_service: StartService) -> None:
    start_service("--unreadable")
    assert "another version of Python" in explained(root)


def test_a_service_that_does_not_know_us_is_recognized(
    root: Path, start_service: StartService
) -> None:
    start_service("--key", "another")
    assert "does not know the library here" in explained(root)


def test_a_socket_that_nobody_listens_to_is_recognized(
    root: Path, start_service: StartService
) -> None:
    path = root / "run/jtop.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert "nobody answers at its socket" in explained(root)


def test_a_socket_that_may_not_be_opened_is_recognized(
    root: Path, start_service: StartService
) -> None:
    start_service()
    (root / "run/jtop.sock").chmod(0)
    assert "join the group jtop" in explained(root, without_privilege())


def without_privilege() -> List[str]:
    """What runs a program to which permissions apply; nothing where they do to the tests."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root may open everything, and its rights cannot be taken here")
    return prefix


def test_the_library_is_not_loaded_into_the_appliance() -> None:
    code = "import sys, edge.app; print('jtop' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_nobody_is_asked_where_there_is_no_socket(root: Path) -> None:
    with pytest.raises(ProbeError, match=r"no .*/run/jtop\.sock: start the service on the host"):
        command(root, 1.0)


def test_the_client_is_told_the_socket_and_the_interval(root: Path) -> None:
    pytest.importorskip("jtop")
    (root / "run").mkdir()
    (root / "run/jtop.sock").touch()
    assert command(root, 1.5)[1:] == [*CLIENT[1:], str(root / "run/jtop.sock"), "1.5"]
