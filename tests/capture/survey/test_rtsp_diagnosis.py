from __future__ import annotations

import errno
import re
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any, List, Mapping, Optional

import pytest

from edge.capture.survey.finding import Finding
from edge.capture.survey.rtsp_diagnosis import diagnose_rtsp
from edge.config.camera import Transport
from edge.config.camera_uri import RtspSpec, parse
from tests.capture.survey.rtsp_responder import GOOD, PACKET, RtspResponder, Script, reply, script

DIGEST = 'WWW-Authenticate: Digest realm="cam", nonce="abc", qop="auth"'
BASIC = 'WWW-Authenticate: Basic realm="cam"'
PATIENT_S, SHORT_S = 20.0, 0.3


def spec_of(url: str) -> RtspSpec:
    spec = parse(url, Path())
    assert isinstance(spec, RtspSpec)
    return spec


def talk(
    answer: Script,
    login: str = "",
    timeout_s: float = PATIENT_S,
    transport: Transport = Transport.TCP,
) -> Finding:
    with RtspResponder(answer) as camera:
        spec = spec_of(f"rtsp://{login}{camera.address}/live?ch=1")
        finding = diagnose_rtsp(spec, transport, timeout_s)
        assert camera.address in finding.reason
    assert "secret" not in f"{finding}"
    assert "\n" not in f"{finding.reason}{finding.advice}"
    return finding


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(script(DESCRIBE=reply(401, DIGEST)), "asks for a user and", id="no login"),
        pytest.param(script(OPTIONS=reply(401, BASIC)), "asks for a user and", id="at once"),
        pytest.param(script(DESCRIBE=reply(403)), "forbids it", id="forbidden"),
        pytest.param(script(DESCRIBE=reply(404)), "has no such stream", id="wrong path"),
        pytest.param(script(SETUP=reply(461)), "unsupported transport", id="no TCP"),
        pytest.param(script(PLAY=reply(454)), "lost the session", id="session"),
        pytest.param(script(SETUP=reply(453)), "no bandwidth left", id="bandwidth"),
        pytest.param(script(DESCRIBE=reply(503)), "is busy", id="busy"),
        pytest.param(script(DESCRIBE=reply(599)), "refuses .RTSP status 599", id="unknown status"),
        pytest.param(
            script(DESCRIBE=reply(302, "Location: rtsp://u:secret@10.0.0.9/x")),
            "redirects to 10.0.0.9",
            id="redirect",
        ),
        pytest.param(
            script(DESCRIBE=reply(200, body="v=0\r\nm=audio 0 RTP/AVP 0\r\n")),
            "offers no video",
            id="sound only",
        ),
        pytest.param(script(DESCRIBE=reply(200)), "offers no video", id="an empty description"),
        pytest.param(script(OPTIONS=reply(501)), "no picture could be decoded", id="no OPTIONS"),
        pytest.param(script(), "sends H264, but no picture could be decoded", id="all is well"),
        pytest.param(
            script(PLAY=PACKET * 3 + GOOD["PLAY"]), "no picture could be", id="packets first"
        ),
        pytest.param(script(OPTIONS=b""), "hung up without an answer", id="hangs up"),
        pytest.param(script(DESCRIBE=b"RTSP/1.0 200 OK\r\nCSe"), "answer within", id="half a head"),
        pytest.param(
            script(OPTIONS=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "speaks HTTP", id="a web server"
        ),
        pytest.param(
            script(OPTIONS=b"SSH-2.0-OpenSSH_9\r\n"), "speaks something else", id="an SSH server"
        ),
        pytest.param(script(OPTIONS=b"RTSP/x\r\n\r\n"), "something else", id="nonsense"),
        pytest.param(script(OPTIONS=None), "takes the connection, but does not", id="silent"),
        pytest.param(script(PLAY=reply(200)), "no packet arrives", id="no packet"),
    ],
)
def test_every_refusal_has_its_words(answer: Script, words: str) -> None:
    is_silent = re.search("does not|within|arrives", words) is not None
    finding = talk(answer, timeout_s=SHORT_S if is_silent else PATIENT_S)
    assert re.search(words, finding.reason), finding
    assert finding.advice


@pytest.mark.parametrize("challenge", [DIGEST, BASIC])
def test_a_wrong_password_is_tried_once_and_named(challenge: str) -> None:
    attempts: List[str] = []

    def answer(method: str, headers: Mapping[str, str]) -> Optional[bytes]:
        attempts.extend([headers["authorization"]] if "authorization" in headers else [])
        return reply(401, challenge) if method == "DESCRIBE" else GOOD.get(method, b"")

    finding = talk(answer, login="admin:secret@")
    assert "does not accept the user or the password" in finding.reason
    assert len(attempts) == 1  # cameras lock a user after a few


def test_a_login_goes_with_every_later_request() -> None:
    logged_in: List[str] = []

    def answer(method: str, headers: Mapping[str, str]) -> Optional[bytes]:
        if method != "OPTIONS" and "authorization" not in headers:
            return reply(401, DIGEST)
        logged_in.append(method)
        return GOOD.get(method, b"")

    finding = talk(answer, login="admin:secret@")
    assert "no picture could be decoded" in finding.reason
    assert logged_in[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_a_nonce_that_changes_is_followed() -> None:
    nonces = iter(range(100))

    def answer(method: str, headers: Mapping[str, str]) -> Optional[bytes]:
        is_fresh = f'nonce="{last[0]}"' in headers.get("authorization", "")
        last[0] = next(nonces)
        stale = f'WWW-Authenticate: Digest realm="cam", nonce="{last[0]}", stale=true'
        return GOOD.get(method, b"") if is_fresh else reply(401, stale)

    last = [next(nonces)]
    assert "no picture could be decoded" in talk(answer, login="admin:secret@").reason


def test_an_unknown_login_is_named() -> None:
    finding = talk(script(DESCRIBE=reply(401, "WWW-Authenticate: Negotiate")), "admin:secret@")
    assert "login (Negotiate)" in finding.reason


def test_the_session_is_given_back_and_no_credential_is_in_a_url() -> None:
    with RtspResponder(script()) as camera:
        diagnose_rtsp(
            spec_of(f"rtsp://admin:secret@{camera.address}/live"), Transport.TCP, PATIENT_S
        )
        for _ in range(1000):
            if "TEARDOWN" in camera.methods:
                break
            threading.Event().wait(0.01)
        assert camera.methods == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
        assert camera.requests[-1][1]["session"] == "7"
        assert camera.urls[2] == f"rtsp://{camera.address}/live/track1"
        assert not any("secret" in url or "admin" in url for url in camera.urls)


@pytest.mark.parametrize(("sends", "words"), [(True, "no picture"), (False, "no packet arrives")])
def test_udp_packets_come_to_a_port_of_their_own(sends: bool, words: str) -> None:
    ports: List[int] = []

    def answer(method: str, headers: Mapping[str, str]) -> Optional[bytes]:
        if method == "SETUP":
            ports.append(int(headers["transport"].split("client_port=")[1].split("-")[0]))
        if method == "PLAY" and sends:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"packet", ("127.0.0.1", ports[0]))
        return reply(200, "Session: 7") if method == "PLAY" else GOOD.get(method, b"")

    finding = talk(answer, timeout_s=PATIENT_S if sends else SHORT_S, transport=Transport.UDP)
    assert words in finding.reason
    assert sends or "transport: tcp" in finding.advice


def test_a_closed_port_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    finding = diagnose_rtsp(spec_of(f"rtsp://127.0.0.1:{port}/s"), Transport.TCP, PATIENT_S)
    assert finding.reason == f"127.0.0.1:{port} refuses the connection"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "b" * 64])
def test_a_name_that_is_not_known(host: str) -> None:
    finding = diagnose_rtsp(spec_of(f"rtsp://a:secret@{host}/s"), Transport.TCP, PATIENT_S)
    assert finding.reason.startswith(f"the name {host} is not known here: ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.timeout("timed out"), "does not answer within 20 s"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "does not answer within 20 s"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no way to 10.0.0.5:554 (No route"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no way to 10.0.0.5:554"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), "cannot be reached (Cannot assign)"),
    ],
    ids=["time-out", "the kernel's time-out", "no host", "no network", "other"],
)
def test_why_an_address_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def refuse(*_: Any) -> socket.socket:
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    finding = diagnose_rtsp(spec_of("rtsp://10.0.0.5/s"), Transport.TCP, PATIENT_S)
    assert words in finding.reason


def test_a_camera_without_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply(400))

        camera = threading.Thread(target=refuse)
        camera.start()
        port = listener.getsockname()[1]
        finding = diagnose_rtsp(spec_of(f"rtsps://127.0.0.1:{port}/s"), Transport.TCP, PATIENT_S)
        camera.join()
    assert f"127.0.0.1:{port} does not speak TLS as it should" in finding.reason
    assert "rtsp://" in finding.advice


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_camera_that_signed_its_certificate_itself(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=camera")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run((*command, *files), check=True, timeout=60, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with RtspResponder(script(DESCRIBE=reply(404)), context) as camera:
        spec = spec_of(f"rtsps://{camera.address}/s")
        assert "has no such stream" in diagnose_rtsp(spec, Transport.TCP, PATIENT_S).reason


def test_a_stream_that_goes_on_does_not_keep_the_talk() -> None:
    with RtspResponder(script(PLAY=GOOD["PLAY"] + PACKET * 200_000)) as camera:
        spec = spec_of(f"rtsp://{camera.address}/live")
        finding = diagnose_rtsp(spec, Transport.TCP, PATIENT_S)
    assert "no picture could be decoded" in finding.reason
