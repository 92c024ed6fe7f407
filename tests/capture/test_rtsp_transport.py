from __future__ import annotations

import queue
import subprocess
import sys
import threading
from typing import List

import pytest

from edge.capture import rtsp_transport
from edge.capture.rtsp_transport import TransportGate, options_for
from edge.capture.source import Busy
from edge.config.camera import Transport
from edge.errors import CaptureError, EdgeError

TCP, UDP = Transport.TCP, Transport.UDP


class Environment(List[str]):
    """The values that were put into it."""

    def put(self, key: str, value: str) -> None:
        assert key == "OPENCV_FFMPEG_CAPTURE_OPTIONS"
        self.append(value)


def test_the_options_name_the_transport() -> None:
    assert options_for(TCP) == "rtsp_transport;tcp|fpsprobesize;0"
    assert options_for(UDP).startswith("rtsp_transport;udp|")


def test_the_environment_is_told_what_has_changed() -> None:
    told = Environment()
    gate = TransportGate(told.put)
    for transport in (TCP, TCP, UDP, UDP, TCP):
        with gate.opening(object(), transport):
            pass
    assert told == [options_for(TCP), options_for(UDP), options_for(TCP)]


def test_one_is_opened_after_the_other() -> None:
    gate, inside = TransportGate(Environment().put, max_wait_s=30), threading.Event()

    def enter() -> None:
        with gate.opening(object(), TCP):
            inside.set()

    with gate.opening(object(), TCP):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not inside.wait(0.1)
    thread.join(30)
    assert inside.is_set()


def test_who_waits_for_long_is_told_to_come_back() -> None:
    gate, who = TransportGate(Environment().put, max_wait_s=0.01), object()
    busy = pytest.raises(Busy, match="other cameras are being opened")
    with gate.opening(object(), TCP), busy, gate.opening(who, TCP):
        pass
    with gate.opening(who, TCP):
        pass


class Camera:
    """Opens behind a gate; each opening waits to be let go on."""

    def __init__(self, gate: TransportGate, name: str, entered: queue.Queue[str]) -> None:
        self.go_on = threading.Event()
        self.waits = threading.Event()
        self._gate = gate
        self._name = name
        self._entered = entered
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                with self._gate.opening(self, TCP):
                    self._entered.put(self._name)
                    assert self.go_on.wait(30)
                    return
            except Busy:
                self.waits.set()


def test_turns_are_taken_in_the_order_of_coming_also_by_those_who_had_to_come_back() -> None:
    gate = TransportGate(Environment().put, max_wait_s=0.01)
    entered: queue.Queue[str] = queue.Queue()
    names = [f"camera {number}" for number in range(6)]
    cameras = []
    for name in names:
        camera = Camera(gate, name, entered)
        cameras.append(camera)
        if name == names[0]:
            assert entered.get(timeout=30) == name
        else:
            assert camera.waits.wait(30)  # in line before the next one comes
    for camera, following in zip(cameras, names[1:]):
        camera.go_on.set()
        assert entered.get(timeout=30) == following
    cameras[-1].go_on.set()
    for camera in cameras:
        camera.thread.join(30)


def test_who_leaves_gives_up_his_place() -> None:
    gate = TransportGate(Environment().put, max_wait_s=0.01)
    first, second = object(), object()
    with gate.opening(object(), TCP):
        for who in (first, second):
            with pytest.raises(Busy), gate.opening(who, TCP):
                pass
    with pytest.raises(Busy), gate.opening(second, TCP):
        pass
    gate.leave(first)
    gate.leave(first)
    with gate.opening(second, TCP):
        gate.leave(first)
        with pytest.raises(Busy), gate.opening(first, TCP):
            pass


def test_a_recording_waits_for_its_turn_like_the_others() -> None:
    gate = TransportGate(Environment().put, max_wait_s=0.01)
    inside = threading.Event()

    def enter() -> None:
        with gate.opening_file():
            inside.set()

    with gate.opening(object(), TCP):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not inside.wait(0.1)
    thread.join(30)
    assert inside.is_set()


def test_an_opening_that_never_ends_is_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp_transport, "_HOPELESS_S", 0.0)
    gate = TransportGate(Environment().put, max_wait_s=0.01)
    hopeless = pytest.raises(EdgeError, match="only a restart of the process helps")
    with gate.opening(object(), TCP), hopeless as caught, gate.opening(object(), TCP):
        pass
    assert not isinstance(caught.value, CaptureError)  # which would only be tried again


def test_recordings_are_not_opened_as_live_streams() -> None:
    """Of a transport stream FFmpeg would learn a wrong rate."""
    told = Environment()
    gate = TransportGate(told.put)
    with gate.opening(object(), TCP):
        pass
    with gate.opening_file():
        assert told[-1] == "rtsp_transport;tcp"


def test_a_failed_opening_frees_the_gate() -> None:
    told = Environment()
    gate = TransportGate(told.put)
    with pytest.raises(ValueError, match="camera"), gate.opening(object(), TCP):
        raise ValueError("camera")
    with gate.opening(object(), UDP):
        assert told[-1] == options_for(UDP)


SETUP_SCRIPT = """
import socket, sys, threading
from edge.capture.opencv import silence_decoders
from edge.capture.video import RtspStream
from edge.clock import SystemClock
from edge.config.camera import Transport
from edge.errors import CaptureError

SDP = "v=0\\r\\no=- 0 0 IN IP4 127.0.0.1\\r\\ns=x\\r\\nc=IN IP4 127.0.0.1\\r\\nt=0 0\\r\\n" \\
      "m=video 0 RTP/AVP 96\\r\\na=rtpmap:96 H264/90000\\r\\na=control:t\\r\\n"
listener = socket.create_server(("127.0.0.1", 0))

def serve():
    while True:
        connection, _ = listener.accept()
        requests = connection.makefile("rb")
        for line in iter(requests.readline, b""):
            headers = {}
            for header in iter(requests.readline, b"\\r\\n"):
                name, _, value = header.decode().partition(":")
                headers[name.lower()] = value.strip()
            if line.startswith(b"SETUP"):
                print(headers["transport"].split(";")[0], flush=True)
            status = "404 No" if line.startswith(b"SETUP") else "200 OK"
            body = SDP if line.startswith(b"DESCRIBE") else ""
            kind = "Content-Type: application/sdp\\r\\n" if body else ""
            more = f"{kind}Content-Length: {len(body)}\\r\\n"
            connection.sendall(
                f"RTSP/1.0 {status}\\r\\nCSeq: {headers['cseq']}\\r\\n{more}\\r\\n{body}".encode())

threading.Thread(target=serve, daemon=True).start()
silence_decoders()
port = listener.getsockname()[1]
for transport in (Transport.TCP, Transport.UDP, Transport.TCP):
    source = RtspStream(f"rtsp://127.0.0.1:{port}/s", f"127.0.0.1:{port}", transport, SystemClock())
    try:
        source.open()
    except CaptureError:
        pass
"""


def test_ffmpeg_asks_the_camera_for_the_transport() -> None:
    command = [sys.executable, "-c", SETUP_SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["RTP/AVP/TCP", "RTP/AVP/UDP", "RTP/AVP/TCP"]
