"""How network cameras fail and come back, on a real RTSP server that is killed and frozen.

``python -m benchmarks.cameras [--quick] [--json] [--save]``

Needs the system's own Python with GStreamer's RTSP server (`make gstreamer`) and ffmpeg, which
makes the recordings. Cameras are read by the daemon's own readers. For every fault: how long until
the camera's status said so, and how long from the server's return to the next frame.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import report
from edge.capture import Mailbox, Reader, Watchdog, source_factory
from edge.clock import SystemClock
from edge.config.schema import CameraConfig
from edge.line import render_scene
from edge.records import CameraState, CameraStatus
from tests.rtsp.server import RtspServer

_TICK_S = 0.05
_PATIENCE_S = 90.0
_STALL_S = 2.0
_PROVEN_S = 10.5  # a camera that delivered for so long is opened again without a long wait


class Stream(NamedTuple):
    """A recording to be served."""

    codec: str
    fps: int
    size: str = "640x360"


STREAMS = {
    "gate": Stream("h264", 30),
    "dock": Stream("h264", 15),
    "yard": Stream("h265", 10),
    "roof": Stream("h265", 5),
}


class Moment(NamedTuple):
    """A status and when it was told."""

    at_s: float
    status: CameraStatus


class Camera:
    """A reader, with all it tells written down."""

    def __init__(self, name: str, url: str) -> None:
        self.history: List[Moment] = []
        self.failures: List[str] = []
        config = CameraConfig.model_validate({"name": name, "uri": url, "stall_s": _STALL_S})
        clock = SystemClock()
        self._mailbox = Mailbox(name, self._take)
        self.last_frame_s = 0.0
        self.reader = Reader(
            config,
            source_factory(config, Path(), render_scene),
            self._mailbox,
            clock,
            lambda status: self.history.append(Moment(time.monotonic(), status)),
            lambda thread, error: self.failures.append(f"{thread}: {error}"),
        )

    def _take(self) -> None:
        self._mailbox.take()
        self.last_frame_s = time.monotonic()

    def told_s(self, since_s: float, *states: CameraState) -> Optional[float]:
        """Seconds from a moment to the first of these states told after it."""
        for moment in self.history:
            if moment.at_s >= since_s and moment.status.state in states:
                return moment.at_s - since_s
        return None

    @property
    def is_online(self) -> bool:
        """Tells whether frames come."""
        return self.reader.status.state is CameraState.ONLINE


class Cameras:
    """Readers under the daemon's watchdog."""

    def __init__(self, urls: Dict[str, str]) -> None:
        self.cameras = {name: Camera(name, url) for name, url in urls.items()}
        readers = [camera.reader for camera in self.cameras.values()]
        self.failures: List[str] = []
        self._watchdog = Watchdog(
            readers, lambda name, error: self.failures.append(f"{name}: {error}")
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Cameras:
        for camera in self.cameras.values():
            camera.reader.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for camera in self.cameras.values():
            camera.reader.stop()
        for camera in self.cameras.values():
            camera.reader.join(_PATIENCE_S)

    def wait(self, what: str, condition: Callable[[Camera], bool]) -> float:
        """Seconds until it holds for every camera."""
        started = time.monotonic()
        while not all(condition(camera) for camera in self.cameras.values()):
            if time.monotonic() - started > _PATIENCE_S:
                states = {name: str(c.reader.status) for name, c in self.cameras.items()}
                sys.exit(f"cameras: not {what} within {_PATIENCE_S:.0f} s: {states}")
            time.sleep(_TICK_S)
        return time.monotonic() - started

    def wait_told(self, since_s: float, *states: CameraState) -> None:
        """Waits until every camera told one of these states after a moment."""
        self.wait("noticed", lambda camera: camera.told_s(since_s, *states) is not None)

    def wait_back(self, since_s: float) -> None:
        """Waits until every camera delivers again after a moment."""
        self.wait("back", lambda camera: camera.last_frame_s > since_s and camera.is_online)

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self._watchdog.check(time.monotonic_ns())


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    options = report.argument_parser(__doc__).parse_args(arguments)
    result = report.Report("cameras", options)
    with tempfile.TemporaryDirectory() as folder:
        mounts = {name: _record(Path(folder), name, one) for name, one in STREAMS.items()}
        _rates(mounts, 4.0 if options.quick else 20.0, result)
        _killed(mounts, 2.0 if options.quick else 5.0, result)
        _frozen(mounts, 4.0 if options.quick else 30.0, result)
        _refused(mounts, result)
        _lossy(mounts, 4.0 if options.quick else 20.0, result)
        _resized(Path(folder), result)
        _many_reconnects(mounts, 1 if options.quick else 13, result)
    result.publish()


def _record(folder: Path, name: str, stream: Stream) -> str:
    """Half an hour of it, of which ten seconds were encoded; returns what the server takes."""
    short, path = folder / f"{name}-short.mp4", folder / f"{name}.mp4"
    encoder = {"h264": "libx264", "h265": "libx265"}[stream.codec]
    source = f"testsrc2=size={stream.size}:rate={stream.fps}"
    _ffmpeg("-f", "lavfi", "-i", source, "-t", "10", "-c:v", encoder, *_FAST, str(short))
    _ffmpeg("-stream_loop", "180", "-i", str(short), "-c", "copy", str(path))
    return f"{path}:{stream.codec}"


_FAST = ("-preset", "ultrafast", "-g", "15", "-bf", "0", "-pix_fmt", "yuv420p")


def _ffmpeg(*arguments: str) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _urls(server: RtspServer) -> Dict[str, str]:
    return {name: server.url(name) for name in STREAMS}


def _rates(mounts: Dict[str, str], seconds: float, result: report.Report) -> None:
    with RtspServer(mounts) as server, Cameras(_urls(server)) as cameras:
        took_s = cameras.wait("online", lambda camera: camera.is_online)
        result.add("first_frame_s", took_s, "s", "four cameras at once, until each had a frame")
        before = {name: c.reader.frames_read for name, c in cameras.cameras.items()}
        time.sleep(seconds)
        for name, stream in STREAMS.items():
            frames = cameras.cameras[name].reader.frames_read - before[name]
            meaning = f"{stream.codec} at {stream.fps} frames/s: what came of it"
            result.add(f"delivered_{name}", frames / seconds / stream.fps, "times", meaning)


def _killed(mounts: Dict[str, str], outage_s: float, result: report.Report) -> None:
    with RtspServer(mounts) as server, Cameras(_urls(server)) as cameras:
        cameras.wait("online", lambda camera: camera.is_online)
        time.sleep(_PROVEN_S)
        _outage("killed", cameras, server.kill, server.start, outage_s, result)


def _frozen(mounts: Dict[str, str], outage_s: float, result: report.Report) -> None:
    with RtspServer(mounts) as server, Cameras(_urls(server)) as cameras:
        cameras.wait("online", lambda camera: camera.is_online)
        time.sleep(_PROVEN_S)
        _outage("frozen", cameras, server.freeze, server.thaw, outage_s, result)
        abandoned = sum(camera.reader.abandoned for camera in cameras.cameras.values())
        result.add("frozen_abandoned", abandoned, "", "threads that were left behind meanwhile")


def _outage(
    name: str,
    cameras: Cameras,
    begin: Callable[[], None],
    end: Callable[[], None],
    outage_s: float,
    result: report.Report,
) -> None:
    began = time.monotonic()
    begin()
    cameras.wait_told(began, CameraState.STALLED, CameraState.OFFLINE)
    time.sleep(max(0.0, began + outage_s - time.monotonic()))
    end()
    ended = time.monotonic()
    cameras.wait_back(ended)
    every = cameras.cameras.values()
    told_s = [c.told_s(began, CameraState.STALLED, CameraState.OFFLINE) or 0.0 for c in every]
    back_s = [c.told_s(ended, CameraState.ONLINE) or 0.0 for c in every]
    result.add(f"{name}_told_s", max(told_s), "s", "until the last of four cameras' status said so")
    meaning = f"from the end of {outage_s:g} s until the last one delivered again"
    result.add(f"{name}_back_s", max(back_s), "s", meaning)


def _refused(mounts: Dict[str, str], result: report.Report) -> None:
    with RtspServer(mounts, user="viewer:right") as server:
        urls = {
            "password": server.url("gate", "viewer:wrong"),
            "path": server.url("nowhere", "viewer:right"),
        }
        with Cameras(urls) as cameras:
            took_s = cameras.wait("offline", lambda camera: bool(_offline(camera)))
            meaning = "a wrong password and a wrong path, until both were told"
            result.add("refused_told_s", took_s, "s", meaning)
            for name, camera in cameras.cameras.items():
                reason = _offline(camera)[0].status.reason
                assert not {"viewer", "wrong", "right"} & set(reason.split()), "a password is shown"
                result.note(f"wrong {name}: {reason}")


def _offline(camera: Camera) -> List[Moment]:
    return [moment for moment in camera.history if moment.status.state is CameraState.OFFLINE]


def _lossy(mounts: Dict[str, str], seconds: float, result: report.Report) -> None:
    name = "gate"
    lossy = {name: f"{mounts[name]}:loss=0.03"}
    with RtspServer(lossy) as server, Cameras({name: server.url(name)}) as cameras:
        cameras.wait("online", lambda camera: camera.is_online)
        camera = cameras.cameras[name]
        before = camera.reader.frames_read
        time.sleep(seconds)
        share = (camera.reader.frames_read - before) / seconds / STREAMS[name].fps
        meaning = "frames that came of a stream that lost 3 % of its pictures"
        result.add("lossy_delivered", share, "times", meaning)
        result.add("lossy_reconnects", camera.reader.reconnects, "", "of the same")


def _resized(folder: Path, result: report.Report) -> None:
    parts = []
    for size in ("640x360", "320x240"):
        part = folder / f"{size}.ts"
        source = f"testsrc2=size={size}:rate=15"
        _ffmpeg("-f", "lavfi", "-i", source, "-t", "4", "-c:v", "libx264", *_FAST, str(part))
        parts.append(part.read_bytes())
    both = folder / "both.ts"
    both.write_bytes(b"".join(parts))
    name = "both"
    with RtspServer({name: f"{both}:h264"}) as server, Cameras({name: server.url(name)}) as cameras:
        cameras.wait("online", lambda camera: camera.is_online)
        time.sleep(7.0)
        frames = cameras.cameras[name].reader.frames_read
        meaning = "frames of 120 in a stream that changes its picture's size in the middle"
        result.add("resized_frames", frames, "", meaning)


def _many_reconnects(mounts: Dict[str, str], rounds: int, result: report.Report) -> None:
    with ExitStack() as made:
        server = made.enter_context(RtspServer(mounts))
        cameras = made.enter_context(Cameras(_urls(server)))
        cameras.wait("online", lambda camera: camera.is_online)
        used: List[float] = []
        threads: List[int] = []
        for _ in range(rounds):
            time.sleep(_PROVEN_S)
            server.kill()
            cameras.wait_told(time.monotonic(), CameraState.OFFLINE)
            server.start()
            cameras.wait_back(time.monotonic())
            used.append(_resident_mb())
            threads.append(threading.active_count())
        reconnects = sum(camera.reader.reconnects for camera in cameras.cameras.values())
        result.add(
            "reconnects", reconnects, "", "of four cameras, one server killed again and again"
        )
        # The first rounds fill the allocator's pools.
        growth = used[-1] - used[len(used) // 4]
        result.add("reconnects_rss_growth_mb", growth, "MB", "memory over the last three quarters")
        result.add("reconnects_threads", threads[-1] - threads[0], "", "threads more than at first")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
