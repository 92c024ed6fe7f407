"""Twenty cameras on one machine, beside FFmpeg that decodes the same streams and does no more.

``python -m benchmarks.many_cameras [--quick] [--json] [--save]``

Twelve network cameras from 720p to 4K, recorded before and served without encoding them again, and
eight that hand out 720p pictures from memory at 30 frames/s. The daemon is the real one but for its
network, which takes 10 ms for any batch. For five minutes: what each camera got, what was dropped
and why, and the CPU of a frame. Needs ffmpeg, mosquitto and GStreamer's RTSP server.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import psutil

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import report
from benchmarks.daemon import Daemon, EngineDouble, MemoryCamera, noise
from benchmarks.timing import percentile
from edge.config.schema import CameraConfig, Config
from edge.demo.broker import DemoBroker
from edge.records import CameraCounters
from tests.rtsp.server import RtspServer

INFER_S = 0.01
MEMORY_CAMERAS = 8
MEMORY_FPS = 30.0
MEMORY_WH = (1280, 720)


class Stream(NamedTuple):
    """Recordings of one kind, and how many cameras show them."""

    codec: str
    size: str
    fps: int
    cameras: int


# Together less than one core of decoding on a slow machine.
STREAMS = {
    "hd": Stream("h264", "1280x720", 5, 6),
    "fullhd": Stream("h264", "1920x1080", 2, 3),
    "hevc": Stream("h265", "1280x720", 5, 2),
    "uhd": Stream("h264", "3840x2160", 1, 1),
}


class MixedDaemon(Daemon):
    """A daemon with network cameras beside those that cost no decoding."""

    def __init__(self, urls: Dict[str, str], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._urls = urls

    def _config(self, folder: Path) -> Config:
        config = super()._config(folder)
        cameras = [{"name": name, "uri": url} for name, url in self._urls.items()]
        network = [CameraConfig.model_validate(camera) for camera in cameras]
        return config.model_copy(update={"cameras": [*config.cameras, *network]})


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    options = report.argument_parser(__doc__).parse_args(arguments)
    result = report.Report("many_cameras", options)
    seconds = 10.0 if options.quick else 300.0
    with tempfile.TemporaryDirectory() as folder:
        mounts = {name: _record(Path(folder), name, one) for name, one in STREAMS.items()}
        with RtspServer(mounts) as server:
            urls = {
                f"{name}{number}": server.url(name)
                for name, stream in STREAMS.items()
                for number in range(stream.cameras)
            }
            peer_ms = _decode_ms(list(urls.values()), min(seconds, 30.0))
            _measure(urls, seconds, peer_ms, result)
    result.publish()


def _record(folder: Path, name: str, stream: Stream) -> str:
    """An hour of it, of which ten seconds were encoded."""
    encoder = {"h264": "libx264", "h265": "libx265"}[stream.codec]
    short, path = folder / f"{name}-short.mp4", folder / f"{name}.mp4"
    source = f"testsrc2=size={stream.size}:rate={stream.fps}:duration=10"
    fast = ["-preset", "ultrafast", "-g", str(2 * stream.fps), "-bf", "0", "-pix_fmt", "yuv420p"]
    _ffmpeg("-f", "lavfi", "-i", source, "-c:v", encoder, *fast, str(short))
    _ffmpeg("-stream_loop", "360", "-i", str(short), "-c", "copy", str(path))
    return f"{path}:{stream.codec}"


def _ffmpeg(*arguments: str) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _decode_ms(urls: List[str], seconds: float) -> float:
    """FFmpeg's CPU for a decoded frame of all the streams at once, without what opening takes."""
    short_s, short_frames = _decode(urls, seconds / 3)
    long_s, long_frames = _decode(urls, seconds)
    return 1e3 * (long_s - short_s) / max(long_frames - short_frames, 1)


def _decode(urls: List[str], seconds: float) -> Tuple[float, int]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = ["-v", "error", "-nostdin", "-progress", "-", "-rtsp_transport", "tcp"]
    processes = [
        subprocess.Popen(
            ["ffmpeg", *options, "-i", url, "-t", f"{seconds:g}", "-f", "null", "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for url in urls
    ]
    frames = 0
    for process in processes:
        told, _ = process.communicate()
        counts = [line for line in told.splitlines() if line.startswith("frame=")]
        frames += int(counts[-1].split("=")[1]) if counts else 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, frames


def _measure(urls: Dict[str, str], seconds: float, peer_ms: float, result: report.Report) -> None:
    pictures = noise(MEMORY_WH, 4)
    memory = [MemoryCamera(pictures, MEMORY_FPS) for _ in range(MEMORY_CAMERAS)]
    with DemoBroker() as broker, MixedDaemon(
        urls, memory, EngineDouble(INFER_S), broker.port
    ) as daemon:
        time.sleep(5.0)  # the last of them has come
        before, cpu_s, began_s = daemon.camera_counters(), time.process_time(), time.monotonic()
        resident_mb = list(_resident_each_second(seconds))
        after, cpu_s = daemon.camera_counters(), time.process_time() - cpu_s
        seconds = time.monotonic() - began_s
    _tell(before, after, seconds, result)
    frames = sum(after[name].frames_read - before[name].frames_read for name in after)
    decoded = sum(after[name].frames_read - before[name].frames_read for name in urls)
    rest_ms = (1e3 * cpu_s - peer_ms * decoded) / frames
    result.add("cpu_cores", cpu_s / seconds, "", "cores that the daemon used, decoding included")
    # The first seconds fill the allocator's pools.
    quarter = len(resident_mb) // 4
    early_mb, late_mb = resident_mb[quarter : 2 * quarter], resident_mb[-quarter:]
    growth_mb = percentile(late_mb, 50) - percentile(early_mb, 50)
    result.add("rss_mb", resident_mb[-1], "MB", "memory of the daemon, and of what measures it")
    result.add("rss_growth_mb", growth_mb, "MB", "its median, from the second to the last quarter")
    result.add("ffmpeg_ms_per_frame", peer_ms, "ms", "CPU of FFmpeg alone for a decoded frame")
    result.add("rest_ms_per_frame", rest_ms, "ms", "CPU of the daemon for a frame, beside that")


def _resident_each_second(seconds: float) -> Iterator[float]:
    process = psutil.Process()
    for _ in range(int(seconds)):
        time.sleep(1.0)
        yield process.memory_info().rss / 1e6


def _tell(
    before: Mapping[str, CameraCounters],
    after: Mapping[str, CameraCounters],
    seconds: float,
    result: report.Report,
) -> None:
    kinds: Dict[str, List[float]] = {}
    dropped: Dict[str, int] = {}
    for name, counters in after.items():
        kind = name.rstrip("0123456789")
        fps = STREAMS[kind].fps if kind in STREAMS else MEMORY_FPS
        inferred = counters.frames_inferred - before[name].frames_inferred
        kinds.setdefault(kind, []).append(inferred / seconds / fps)
        for cause, count in counters.dropped.items():
            lost = count - before[name].dropped.get(cause, 0)
            dropped[cause.value] = dropped.get(cause.value, 0) + lost
    for kind, shares in kinds.items():
        meaning = f"of {len(shares)} cameras' frames were inferred"
        result.add(f"inferred_{kind}", sum(shares) / len(shares), "times", meaning)
        fairness = min(shares) / max(max(shares), 1e-9)
        result.add(f"fairness_{kind}", fairness, "times", "the least over the most of them")
    for name, count in sorted(dropped.items()):
        result.add(f"dropped_{name}", count, "", "frames")


if __name__ == "__main__":
    main()
