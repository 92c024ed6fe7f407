"""Names that a name server knows, does not know, or does not answer for."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from edge.capture import network
from edge.capture.names import Resolver, look_up
from edge.capture.opening import source_factory
from edge.capture.source import Source
from edge.capture.video import RtspStream
from edge.clock import SystemClock
from edge.config.camera import CameraConfig, Transport
from edge.errors import CaptureError
from tests.capture.hanging_source import GENEROUS_S
from tests.capture.test_opening import JETSON, render

NAME = "camera.invalid"


class NameServer:
    """Says nothing until its gate is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: List[str] = []

    def __call__(self, host: str) -> List[str]:
        self.asked.append(host)
        assert self.gate.wait(GENEROUS_S)
        return ["192.0.2.7"]


def test_a_silent_name_server_holds_up_nobody_and_is_asked_once() -> None:
    server = NameServer()
    resolver = Resolver(server, timeout_s=0.05)
    for _ in range(3):
        with pytest.raises(CaptureError, match=r"^no name server says within 0\.05 s what addr"):
            resolver.addresses(NAME)
    assert server.asked == [NAME]
    server.gate.set()
    patient = Resolver(server, timeout_s=GENEROUS_S)
    assert patient.addresses(NAME) == ["192.0.2.7"]


def test_an_answer_that_came_late_is_given_to_the_next_and_to_nobody_else() -> None:
    server = NameServer()
    resolver = Resolver(server, timeout_s=0.05)
    with pytest.raises(CaptureError, match="no name server"):
        resolver.addresses(NAME)
    late = [thread for thread in threading.enumerate() if thread.name == f"resolve-{NAME}"]
    server.gate.set()
    for thread in late:
        thread.join(GENEROUS_S)
    assert resolver.addresses(NAME) == ["192.0.2.7"]
    assert server.asked == [NAME]
    assert resolver.addresses(NAME) == ["192.0.2.7"]
    assert server.asked == [NAME, NAME]


def test_one_name_does_not_wait_for_another() -> None:
    server = NameServer()
    resolver = Resolver(
        lambda host: server(host) if host == NAME else ["192.0.2.8"], timeout_s=0.05
    )
    with pytest.raises(CaptureError, match="no name server"):
        resolver.addresses(NAME)
    assert resolver.addresses("other.invalid") == ["192.0.2.8"]
    server.gate.set()


def test_an_unknown_name_is_asked_for_again() -> None:
    asked: List[str] = []

    def refuse(host: str) -> List[str]:
        asked.append(host)
        raise CaptureError(f"the name {host} is not known here")

    resolver = Resolver(refuse, timeout_s=GENEROUS_S)
    for _ in range(2):
        with pytest.raises(CaptureError, match="is not known here"):
            resolver.addresses(NAME)
    assert asked == [NAME, NAME]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_its_own(host: str) -> None:
    assert look_up(host) == [host]


@pytest.mark.parametrize("host", [NAME, "x" * 64], ids=["unknown", "no host name"])
def test_a_name_without_an_address_is_named(host: str) -> None:
    with pytest.raises(CaptureError, match=f"^the name {host} is not known here: "):
        look_up(host)


@pytest.fixture
def silent_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system's own lookup, which hangs for names."""
    server, known = NameServer(), socket.getaddrinfo

    def ask(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host == NAME:
            server(host)
        return known("127.0.0.1" if host == NAME else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(network, "RESOLVER", Resolver(look_up, timeout_s=0.05))
    yield
    server.gate.set()


URL = f"rtsp://u:secret@{NAME}:9/s"


def made(kind: str) -> Source:
    if kind == "software":
        return RtspStream(URL, f"{NAME}:9", Transport.TCP, SystemClock())
    camera = CameraConfig.model_validate({"name": "gate", "uri": URL})
    return source_factory(camera, Path(), render, None, JETSON)()


@pytest.mark.usefixtures("silent_name_server")
@pytest.mark.parametrize("kind", ["software", "hardware"])
def test_a_network_camera_behind_a_silent_name_server_is_away_and_does_not_hang(kind: str) -> None:
    source = made(kind)
    for _ in range(2):
        with pytest.raises(CaptureError, match=f"no name server says .* {NAME} has") as caught:
            source.open()
        assert "secret" not in str(caught.value)
    source.close()
