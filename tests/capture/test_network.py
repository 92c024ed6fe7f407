from __future__ import annotations

import socket
import threading

import pytest

from edge.capture import network
from edge.capture.names import Resolver
from edge.capture.network import check_answers, check_reachable, url_at
from edge.errors import CaptureError


@pytest.mark.parametrize(
    ("url", "ip", "expected"),
    [
        pytest.param("rtsp://cam/s?x=1", "10.0.0.5", "rtsp://10.0.0.5/s?x=1", id="a name"),
        pytest.param("RTSP://cam:8554/s", "10.0.0.5", "rtsp://10.0.0.5:8554/s", id="a port"),
        pytest.param("rtsp://u:p%40@cam/s", "10.0.0.5", "rtsp://u:p%40@10.0.0.5/s", id="a user"),
        pytest.param("rtsp://u:p@[fe80::1]:1/s", "fe80::2", "rtsp://u:p@[fe80::2]:1/s", id="IPv6"),
        pytest.param("rtsps://cam/s", "10.0.0.5", "rtsps://cam/s", id="TLS needs the name"),
    ],
)
def test_a_url_gets_the_address_that_was_found(url: str, ip: str, expected: str) -> None:
    assert url_at(url, ip) == expected


def answer(listener: socket.socket, reply: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(reply)


def test_the_address_that_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a camera with several addresses, the first that takes the connection."""
    resolver = Resolver(lambda host: ["::1", "127.0.0.1"])
    monkeypatch.setattr(network, "RESOLVER", resolver)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"höfe.invalid:{listener.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=(listener, b"RTSP/1.0 200 OK\r\n\r\n"))
        thread.start()
        assert check_answers(address) == "127.0.0.1"
        thread.join(30)
        assert check_reachable(address) == "127.0.0.1"


def test_who_hangs_up_speaks_no_rtsp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener, b""))
        thread.start()
        with pytest.raises(CaptureError, match=r"hangs up: is it a camera's RTSP port\?$"):
            check_answers(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join(30)


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(CaptureError, match=f"^no answer from {address}: timed out$"):
            check_answers(address)


def test_a_closed_port_is_named() -> None:
    # Port 9 (discard) of this machine refuses at once.
    with pytest.raises(CaptureError, match=r"^no answer from \[::1\]:9: |Connection refused$"):
        check_reachable("[::1]:9")
    with pytest.raises(CaptureError, match=r"^no answer from 127\.0\.0\.1:9: Connection refused$"):
        check_reachable("127.0.0.1:9")
