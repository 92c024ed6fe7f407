"""The daemon's own readers on a real RTSP server that is killed, frozen and refusing."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Dict

import pytest

from benchmarks.cameras import Camera, Cameras
from edge.records import CameraState
from tests.rtsp.server import RtspServer, require

ENCODERS = {"h264": "libx264", "h265": "libx265"}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """A minute of each codec, by name."""
    require()
    folder = tmp_path_factory.mktemp("recordings")
    return {codec: f"{record(folder, codec)}:{codec}" for codec in ENCODERS}


def record(folder: Path, codec: str) -> Path:
    path = folder / f"{codec}.mp4"
    source = "testsrc2=size=320x240:rate=15:duration=60"
    options = ["-c:v", ENCODERS[codec], "-preset", "ultrafast", "-g", "15", "-bf", "0"]
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-f",
        "lavfi",
        "-i",
        source,
        *options,
        str(path),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return path


def urls(server: RtspServer) -> Dict[str, str]:
    return {codec: server.url(codec) for codec in ENCODERS}


def is_online(camera: Camera) -> bool:
    return camera.is_online


def test_a_killed_server_is_told_and_found_again(recordings: Dict[str, str]) -> None:
    with RtspServer(recordings) as server, Cameras(urls(server)) as cameras:
        cameras.wait("online", is_online)
        threads = threading.active_count()
        server.kill()
        cameras.wait_told(time.monotonic(), CameraState.OFFLINE)
        before = {name: camera.reader.frames_read for name, camera in cameras.cameras.items()}
        server.start()
        cameras.wait_back(time.monotonic())
        for name, camera in cameras.cameras.items():
            assert camera.reader.reconnects == 1
            assert camera.reader.abandoned == 0
            assert camera.reader.frames_read > before[name]
        assert threading.active_count() == threads
        assert not cameras.failures


def test_a_silent_connection_is_a_stall(recordings: Dict[str, str]) -> None:
    with RtspServer(recordings) as server, Cameras(urls(server)) as cameras:
        cameras.wait("online", is_online)
        server.freeze()
        cameras.wait_told(time.monotonic(), CameraState.STALLED)
        server.thaw()
        cameras.wait_back(time.monotonic())
        assert not cameras.failures


def test_refusals_are_told_without_the_password(recordings: Dict[str, str]) -> None:
    with RtspServer(recordings, user="viewer:secret") as server:
        wanted = {
            "password": server.url("h264", "viewer:mistaken"),
            "path": server.url("nowhere", "viewer:secret"),
            "fine": server.url("h264", "viewer:secret"),
        }
        with Cameras(wanted) as cameras:
            refused = [cameras.cameras[name] for name in ("password", "path")]
            cameras.wait(
                "told",
                lambda camera: (
                    camera.is_online or camera.told_s(0, CameraState.OFFLINE) is not None
                ),
            )
            for camera in refused:
                reason = camera.reader.status.reason
                assert "check network, address, path, user and password" in reason
                assert "secret" not in reason
                assert "mistaken" not in reason
            assert cameras.cameras["fine"].told_s(0, CameraState.OFFLINE) is None
