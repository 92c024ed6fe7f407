"""Why a network camera does not deliver: talks RTSP to it up to the first packet.

A decoder says only that it failed. The talk asks for one session and gives it back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from io import BufferedReader
from typing import List, NoReturn, Optional, Tuple, Union
from urllib.parse import urlsplit

from edge.capture.names import RESOLVER
from edge.capture.survey.finding import Finding
from edge.capture.survey.rtsp_messages import (
    Credentials,
    Login,
    Reply,
    VideoTrack,
    authorization,
    find_video,
    host_of,
    parse_head,
    split_credentials,
    without_login,
)
from edge.config.camera import Transport
from edge.config.camera_uri import RtspSpec
from edge.errors import CaptureError

_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
_MOST_HEADERS = 64
_LONGEST_LINE = 8192
_LONGEST_BODY = 65_536
_MOST_PACKETS = 1000
_GOODBYE_S = 0.5

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)

_STATUSES = {
    400: ("does not understand the request", "check the path of its URI"),
    403: (
        "forbids it",
        "check the user's rights and the allowed addresses in the camera's settings",
    ),
    404: (
        "has no such stream",
        "check the path (after host:port) in the camera's manual or in its settings",
    ),
    405: ("does not give a stream here", "check the path of its URI"),
    406: ("cannot give this stream", "check the path, and the codec in the camera's settings"),
    415: ("cannot give this stream", "choose H.264 or H.265 in the camera's settings"),
    451: ("does not know this stream's parameters", "check the path of its URI"),
    453: ("has no bandwidth left", "close other viewers, or lower the stream's bit rate"),
    454: ("lost the session", "restart the camera"),
    461: (
        "does not send this way (unsupported transport)",
        "give the other `transport` (tcp or udp), or allow this one in the camera's settings",
    ),
    500: ("has an internal error", "restart the camera"),
    503: ("is busy", "close other viewers: many cameras allow only a few"),
}


class _Told(Exception):
    """Carries what the talk found out."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.finding = Finding(reason, advice)


class _OverTcp:
    """Packets come between the replies."""

    header = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
    advice = "restart the camera, and check that its encoder is on"

    def wait(self, stream: BufferedReader) -> bool:
        return bool(stream.read(1))

    def close(self) -> None:
        """Does nothing: the connection is the talk's own."""


class _OverUdp:
    """Packets come to a port of this machine."""

    advice = "let UDP from the camera through the firewall, or give `transport: tcp`"

    def __init__(self, family: int, timeout_s: float) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(timeout_s)
        self._socket.bind(("", 0))
        port = self._socket.getsockname()[1]
        self.header = f"Transport: RTP/AVP;unicast;client_port={port}-{port + 1}\r\n"

    def wait(self, stream: BufferedReader) -> bool:
        return bool(self._socket.recv(1))

    def close(self) -> None:
        self._socket.close()


_Road = Union[_OverTcp, _OverUdp]


def diagnose_rtsp(spec: RtspSpec, transport: Transport, timeout_s: float) -> Finding:
    """Talks to the camera and says what went wrong; never raises.

    Each step may take `timeout_s`.
    """
    bare, credentials = split_credentials(spec.url)
    address = spec.address
    try:
        with contextlib.closing(_connect(bare, address, timeout_s)) as connection:
            talk = _Talk(connection, bare, address, credentials)
            with contextlib.closing(_road(transport, connection)) as road:
                return talk.run(road)
    except _Told as told:
        return told.finding
    except socket.timeout:
        return _silent(address, timeout_s)
    except OSError as error:
        reason = f"{address} hung up ({error.strerror or 'no more data'})"
        return Finding(reason, "check that the port is the RTSP port, and restart the camera")


class _Talk:
    """One connection to one camera."""

    def __init__(
        self,
        connection: socket.socket,
        url: str,
        address: str,
        credentials: Optional[Credentials],
    ) -> None:
        self._connection = connection
        self._stream: BufferedReader = connection.makefile("rb")
        self._url = url
        self._address = address
        self._credentials = credentials
        self._timeout_s = connection.gettimeout() or 0.0
        self._sequence = 0
        self._logins = 0
        self._cnonce = os.urandom(8).hex()
        self._challenges: Tuple[str, ...] = ()

    def run(self, road: _Road) -> Finding:
        """The whole talk."""
        with contextlib.closing(self._stream):
            options, _ = self._ask("OPTIONS", self._url)
            if options.status == 401:  # any other says only that it speaks RTSP
                self._demand(options)
            track = self._describe()
            session = self._set_up(track, road)
            try:
                self._play(session)
                self._await_packet(track, road)
            finally:
                self._hang_up(session)
        return Finding(
            f"{self._address} answers and sends {track.codec}, but no picture could be decoded",
            "choose H.264 (or H.265) without encryption or 'smart codec' in its settings; "
            "see `edge --log-level debug cameras …`",
        )

    def _describe(self) -> VideoTrack:
        reply, body = self._ask("DESCRIBE", self._url, "Accept: application/sdp\r\n")
        self._demand(reply)
        base = reply.header("content-base") or reply.header("content-location") or self._url
        track = find_video(body, without_login(base, self._url))
        if track is None:
            raise _Told(
                f"{self._address} offers no video under this path",
                "check the path, and that the stream's video is switched on in its settings",
            )
        return track

    def _set_up(self, track: VideoTrack, road: _Road) -> str:
        reply, _ = self._ask("SETUP", track.control, road.header)
        self._demand(reply)
        return reply.header("session").split(";")[0]

    def _play(self, session: str) -> None:
        reply, _ = self._ask("PLAY", self._url, f"Session: {session}\r\nRange: npt=0.000-\r\n")
        self._demand(reply)

    def _await_packet(self, track: VideoTrack, road: _Road) -> None:
        with contextlib.suppress(socket.timeout):
            if road.wait(self._stream):
                return
        raise _Told(
            f"{self._address} starts the {track.codec} stream, but no packet arrives", road.advice
        )

    def _hang_up(self, session: str) -> None:
        """Gives the session back, and lets the camera read that before the connection ends."""
        with contextlib.suppress(OSError):
            self._send("TEARDOWN", self._url, f"Session: {session}\r\n")
            self._connection.shutdown(socket.SHUT_WR)
            self._connection.settimeout(_GOODBYE_S)
            # Closing with packets unread would reset the connection, and the request be lost.
            deadline_s = time.monotonic() + _GOODBYE_S
            while time.monotonic() < deadline_s and self._stream.read(1):
                self._stream.read1(_LONGEST_BODY)

    def _demand(self, reply: Reply) -> None:
        """Goes on only after a 200."""
        if reply.status == 200:
            return
        if reply.status == 401:
            raise self._refused()
        if reply.status in (301, 302, 303, 305):
            host = host_of(reply.header("location")) or "another address"
            raise _Told(
                f"{self._address} redirects to {host}", "give that stream's address as the uri"
            )
        words, advice = _STATUSES.get(reply.status, ("refuses", "restart the camera"))
        raise _Told(f"{self._address} {words} (RTSP status {reply.status})", advice)

    def _refused(self) -> _Told:
        if self._credentials is None:
            return _Told(
                f"{self._address} asks for a user and a password (RTSP status 401)",
                "uri: rtsp://USER:${PASSWORD}@…, with PASSWORD in the environment",
            )
        return _Told(
            f"{self._address} does not accept the user or the password (RTSP status 401)",
            "check both in the camera's settings (RTSP or ONVIF users may be separate); in the "
            "uri write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23; too many tries may have "
            "locked the user",
        )

    def _ask(self, method: str, url: str, headers: str = "") -> Tuple[Reply, str]:
        """Sends a request, once more with the credentials if they are asked for."""
        self._send(method, url, headers)
        reply, body = self._receive()
        challenges = tuple(reply.headers.get("www-authenticate", ()))
        if reply.status == 401 and challenges and self._credentials:
            self._challenges, self._logins = challenges, 0
            self._send(method, url, headers)
            return self._receive()
        return reply, body

    def _send(self, method: str, url: str, headers: str = "") -> None:
        self._sequence += 1
        login = self._login(method, url)
        text = f"{method} {url} RTSP/1.0\r\nCSeq: {self._sequence}\r\nUser-Agent: edge\r\n"
        self._connection.sendall(f"{text}{headers}{login}\r\n".encode())

    def _login(self, method: str, url: str) -> str:
        if self._credentials is None or not self._challenges:
            return ""
        self._logins += 1
        login = Login(self._cnonce, self._logins)
        answer = authorization(self._challenges, self._credentials, (method, url), login)
        if answer is None:
            kinds = ", ".join(challenge.split(" ", 1)[0] for challenge in self._challenges)
            raise _Told(
                f"{self._address} asks for a login ({kinds}) that is not known here",
                "choose digest or basic authentication in the camera's settings",
            )
        return f"Authorization: {answer}\r\n"

    def _receive(self) -> Tuple[Reply, str]:
        deadline_s = time.monotonic() + self._timeout_s
        first = self._skip_packets(deadline_s)
        lines = [(first + self._stream.readline(_LONGEST_LINE)).decode("utf-8", "replace").strip()]
        if not lines[0].startswith("RTSP/"):
            _not_rtsp(self._address, lines[0])
        while len(lines) < _MOST_HEADERS and lines[-1]:
            if time.monotonic() > deadline_s:
                raise socket.timeout
            line = self._stream.readline(_LONGEST_LINE)
            lines.append(line.decode("utf-8", "replace").strip())
        reply = parse_head([line for line in lines if line])
        if reply is None:
            _not_rtsp(self._address, lines[0])
        return reply, self._body(reply)

    def _body(self, reply: Reply) -> str:
        length = reply.header("content-length")
        size = min(int(length), _LONGEST_BODY) if length.isdecimal() else 0
        return self._stream.read(size).decode("utf-8", "replace") if size else ""

    def _skip_packets(self, deadline_s: float) -> bytes:
        """The first byte of the next reply; RTP between two replies is passed over."""
        for _ in range(_MOST_PACKETS):
            first = self._stream.read(1)
            if first != b"$":
                return first
            head = self._stream.read(3)
            self._stream.read(int.from_bytes(head[1:], "big"))
            if time.monotonic() > deadline_s:
                break
        raise socket.timeout


def _road(transport: Transport, connection: socket.socket) -> _Road:
    if transport is Transport.UDP:
        return _OverUdp(connection.family, connection.gettimeout() or 0.0)
    return _OverTcp()


def _connect(url: str, address: str, timeout_s: float) -> socket.socket:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
    last: Optional[OSError] = None
    for ip in _resolve(host):
        try:
            connection = socket.create_connection((ip, port), timeout_s)
        except OSError as error:
            last = error
            continue
        return _secured(connection, host, address) if parts.scheme == "rtsps" else connection
    raise _unreachable(address, last, timeout_s)


def _resolve(host: str) -> List[str]:
    try:
        return RESOLVER.addresses(host)
    except CaptureError as error:
        advice = "check its spelling and the DNS server (`getent hosts`), or give the IP address"
        raise _Told(str(error), advice) from error


def _secured(connection: socket.socket, host: str, address: str) -> socket.socket:
    # Cameras sign their certificates themselves; whether it is trusted is not the question here.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLError as error:
        connection.close()
        raise _Told(
            f"{address} does not speak TLS as it should ({error.reason})",
            "use rtsp:// with its port, or switch TLS on in the camera's settings",
        ) from error
    except OSError:
        connection.close()
        raise


def _unreachable(address: str, error: Optional[OSError], timeout_s: float) -> _Told:
    if isinstance(error, ConnectionRefusedError):
        return _Told(
            f"{address} refuses the connection",
            "check the port, and that RTSP is switched on in the camera's settings",
        )
    if isinstance(error, socket.timeout) or (error and error.errno == errno.ETIMEDOUT):
        return _Told(
            f"{address} does not answer within {timeout_s:g} s",
            "check power, cable, address and firewall (`ping` it)",
        )
    if error is not None and error.errno in _NO_ROUTE:
        return _Told(
            f"there is no way to {address} ({error.strerror})",
            "check power, cable and address, and that this machine is in its network (`ip route`)",
        )
    return _Told(f"{address} cannot be reached ({error and error.strerror})")


def _silent(address: str, timeout_s: float) -> Finding:
    return Finding(
        f"{address} takes the connection, but does not answer within {timeout_s:g} s",
        "check that the port is the RTSP port, and restart the camera",
    )


def _not_rtsp(address: str, first_line: str) -> NoReturn:
    if not first_line:
        raise _Told(
            f"{address} hung up without an answer",
            "check that the port is the RTSP port, and that this address may connect",
        )
    speaks = "HTTP" if first_line.startswith("HTTP/") else "something else"
    raise _Told(
        f"{address} speaks {speaks}, not RTSP", "give the RTSP port, usually 554, in the uri"
    )
