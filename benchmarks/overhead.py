"""What the daemon costs beside decoding and inference: CPU, delays, memory.

``python -m benchmarks.overhead [--json] [--save]``

The real daemon runs in this process with a real broker (see `daemon.py`); only
`chunked_over_batch1` runs a real network.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import psutil

from benchmarks import report
from benchmarks.daemon import Daemon, EngineDouble, MemoryCamera, noise, staggered
from benchmarks.lateness import CloseToPublish, PlainLoop, measure_close_to_publish, measure_closing
from benchmarks.timing import interleave, paired_ratio, percentile
from edge.building.graph import deploy
from edge.clock import NS_PER_MS
from edge.config.schema import EngineConfig, ModelConfig
from edge.demo.broker import DemoBroker
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.onnxruntime import OnnxRuntimeEngine

PARTS_MODEL = Path(__file__).resolve().parent.parent / "edge" / "demo" / "assets" / "parts.onnx"

SOURCE_WH = (1920, 1080)
CAMERAS = 8
FPS = 10.0
INFER_S = 0.02  # about what a Xavier NX takes for 8 frames

CPU_BAR = report.Bar("<=", 3.0)
CLOSE_BAR = report.Bar("<=", 1.5)
PUBLISH_BAR = report.Bar("<=", 1.5)
CHUNKED_BAR = report.Bar(">", 1.0)
RSS_BAR = report.Bar("<=", 5.0)


@dataclass(frozen=True)
class Effort:
    """How much of everything is measured."""

    cpu_windows: int
    cpu_window_s: float
    plain_frames: int
    delays_s: float
    memory_frames: int
    chunked_frames: int
    chunked_rounds: int


THOROUGH = Effort(9, 5.0, 200, 30.0, 100_000, 64, 9)
QUICK = Effort(1, 1.0, 20, 1.0, 300, 9, 1)

_STALLED_S = 30.0
_NS_PER_US = 1000


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    options = _parse(arguments)
    result = report.Report("overhead", options)
    effort = QUICK if options.quick else THOROUGH
    with DemoBroker() as broker:
        result.note(f"broker: {broker.name} on loopback")
        _cpu(result, broker.port, effort)
        _closing(result, broker.port, effort.delays_s)
        _close_to_publish(result, broker.port, effort.delays_s)
        _memory(result, broker.port, options.frames or effort.memory_frames)
    _chunks(result, effort)
    result.publish()


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = report.argument_parser(__doc__)
    parser.add_argument("--frames", type=int, help="frames over which memory may not grow (100000)")
    return parser.parse_args(arguments)


# --- CPU -------------------------------------------------------------------------------------


def _cpu(result: report.Report, broker_port: int, effort: Effort) -> None:
    images = noise(SOURCE_WH, CAMERAS)
    plain_ms = _plain_cpu_ms_per_frame(images, broker_port, effort)
    cameras = [
        MemoryCamera(images[i:] + images[:i], FPS, staggered(i, CAMERAS, FPS))
        for i in range(CAMERAS)
    ]
    per_frame: List[Dict[str, float]] = []
    sections = {"batching": {"target": CAMERAS}}
    with Daemon(cameras, EngineDouble(INFER_S), broker_port, sections=sections) as daemon:
        time.sleep(effort.cpu_window_s / 3)
        for _ in range(effort.cpu_windows):
            per_frame.append(_cpu_ms_per_frame(daemon, effort.cpu_window_s))
        lost = daemon.frames_lost()
    plain_ms += _plain_cpu_ms_per_frame(images, broker_port, effort)
    total = percentile([sum(window.values()) for window in per_frame], 50)
    meaning = f"process CPU per 1080p frame, {CAMERAS} cameras at {FPS:g}/s, nothing subtracted"
    result.add("cpu_ms_per_frame", total, "ms", meaning, CPU_BAR)
    plain = percentile(plain_ms, 50)
    result.add("cpu_ms_plain_loop", plain, "ms", "the same steps called on one thread")
    result.add("cpu_over_plain_loop", total / plain, "times", "what being a daemon costs")
    for part in sorted({name for window in per_frame for name in window}):
        value = percentile([window.get(part, 0.0) for window in per_frame], 50)
        result.add(f"cpu_ms_{part}", value, "ms", f"of it in threads '{part}'")
    result.note(f"cpu: {lost} frames or messages lost, inference double of {INFER_S * 1e3:g} ms")


def _cpu_ms_per_frame(daemon: Daemon, window_s: float) -> Dict[str, float]:
    before, frames_before = _cpu_ns_by_thread(), daemon.frames
    time.sleep(window_s)
    after, frames = _cpu_ns_by_thread(), daemon.frames - frames_before
    if not frames:
        raise TimeoutError(f"the daemon let no frame through in {window_s:g} s")
    return {name: (after[name] - before[name]) / NS_PER_MS / frames for name in after}


def _plain_cpu_ms_per_frame(
    images: Sequence[Image], broker_port: int, effort: Effort
) -> List[float]:
    """Letterbox, filter, serialize and send, with OpenCV on one thread as well."""
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    loop = PlainLoop(broker_port, EngineDouble(0.0))
    took_ms: List[float] = []
    for number in range(effort.plain_frames):
        start_ns = time.thread_time_ns()
        loop.letterbox_and_run(images[number % len(images)])
        took_ms.append((time.thread_time_ns() - start_ns) / NS_PER_MS)
    loop.close()
    cv2.setNumThreads(opencv_threads)
    return took_ms


def _cpu_ns_by_thread() -> Dict[str, int]:
    """The kernel's account of this process' threads by role; `native` are those of libraries."""
    roles = {thread.native_id: _role(thread.name) for thread in threading.enumerate()}
    spent: Dict[str, int] = Counter()
    for task in Path("/proc/self/task").iterdir():
        on_cpu_ns = int((task / "schedstat").read_text().split()[0])
        spent[roles.get(int(task.name), "native")] += on_cpu_ns
    return spent


def _role(thread_name: str) -> str:
    """`letterbox_0` and `capture-cam3` without what numbers them."""
    word = re.match("[A-Za-z]+", thread_name)
    return word.group(0).lower() if word else thread_name


# --- delays ----------------------------------------------------------------------------------


def _closing(result: report.Report, broker_port: int, seconds: float) -> None:
    late = measure_closing(broker_port, seconds)
    ratios = {
        percent: percentile(late.closes, percent) / percentile(late.bare_waits, percent)
        for percent in (50, 99)
    }
    meaning = f"lateness after the deadline, {len(late.closes)} batches; the worse of p50 and p99"
    result.add("close_over_bare_wait", max(ratios.values()), "times", meaning, CLOSE_BAR)
    for percent, ratio in ratios.items():
        result.add(f"close_over_bare_wait_p{percent}", ratio, "times", f"p{percent}")
        for name, values in (("close", late.closes), ("bare_wait", late.bare_waits)):
            value_us = percentile(values, percent) / _NS_PER_US
            result.add(f"{name}_late_us_p{percent}", value_us, "us", f"p{percent} of the {name}")


def _close_to_publish(result: report.Report, broker_port: int, seconds: float) -> None:
    full = measure_close_to_publish(broker_port, CAMERAS, seconds)
    meaning = f"slot closed to socket less inference, batches of {CAMERAS}, p50"
    result.add("close_to_publish_over_floor", _ratio(full), "times", meaning, PUBLISH_BAR)
    single = measure_close_to_publish(broker_port, 1, seconds)
    result.add("close_to_publish_over_floor_batch1", _ratio(single), "times", "batches of 1, p50")
    for name, delays in (("", full), ("_batch1", single)):
        for way, values in (("daemon", delays.daemon), ("plain_loop", delays.plain_loop)):
            key, value_ms = f"close_to_publish_ms_{way}{name}", percentile(values, 50) / NS_PER_MS
            result.add(key, value_ms, "ms", f"p50 of {len(values)} frames")


def _ratio(delays: CloseToPublish) -> float:
    return percentile(delays.daemon, 50) / percentile(delays.plain_loop, 50)


# --- memory ----------------------------------------------------------------------------------


class Turns:
    """Lets each camera have one frame under way, so that the daemon runs as fast as it can."""

    def __init__(self, cameras: int) -> None:
        self._free = {f"cam{i}": threading.Semaphore(1) for i in range(cameras)}

    def before_frame(self, camera: int) -> Callable[[int], None]:
        """What holds the camera's frames back; not for ever, or the daemon could not stop."""
        free = self._free[f"cam{camera}"]

        def wait(frame: int) -> None:
            free.acquire(timeout=1.0)

        return wait

    def done(self, camera: str) -> None:
        """The camera's frame has its result."""
        self._free[camera].release()


def _memory(result: report.Report, broker_port: int, frames: int) -> None:
    turns = Turns(CAMERAS)
    images = noise((640, 360), 2)
    cameras = [MemoryCamera(images, 240.0, turns.before_frame(i)) for i in range(CAMERAS)]
    with Daemon(
        cameras,
        EngineDouble(0.0),
        broker_port,
        lambda frame: turns.done(frame.info.camera),
        {"batching": {"target": CAMERAS, "max_wait_ms": 2}},
    ) as daemon:
        warm_up = min(10_000, frames // 2)
        _run_frames(daemon, warm_up)
        start_s = time.monotonic()
        rss_mb = _run_frames(daemon, frames)
        rate = frames / (time.monotonic() - start_s)
        lost = daemon.frames_lost()
    few = max(len(rss_mb) // 20, 1)
    growth = percentile(rss_mb[-few:], 50) - percentile(rss_mb[:few], 50)
    meaning = f"growth of resident memory over {frames} frames after {warm_up} for warm-up"
    result.add("rss_growth_mb", growth, "MB", meaning, RSS_BAR)
    result.add("rss_mb", rss_mb[-1], "MB", "resident at the end")
    result.add("rss_frames_per_s", rate, "/s", "small frames, as fast as the daemon takes them")
    result.note(f"memory: {lost} frames or messages lost")


def _run_frames(daemon: Daemon, frames: int) -> List[float]:
    """Resident megabytes, sampled until so many more frames are through."""
    process, end, rss_mb = psutil.Process(), daemon.frames + frames, []
    last_frames, last_change_s = -1, time.monotonic()
    while daemon.frames < end:
        rss_mb.append(process.memory_info().rss / 1e6)
        if daemon.frames != last_frames:
            last_frames, last_change_s = daemon.frames, time.monotonic()
        elif time.monotonic() - last_change_s > _STALLED_S:
            raise TimeoutError(f"the daemon let no frame through for {_STALLED_S:g} s")
        time.sleep(0.1)
    return rss_mb


# --- chunks ----------------------------------------------------------------------------------


def _chunks(result: report.Report, effort: Effort) -> None:
    frames = effort.chunked_frames
    engine = OnnxRuntimeEngine(deploy(PARTS_MODEL, ModelConfig(path=PARTS_MODEL)), EngineConfig())
    cap = engine.info.max_batch
    chunked = ChunkedEngine(engine, cap, lambda cap: None)
    rows = np.stack(noise(engine.input_wh, frames))
    took_ms = interleave(
        {
            "chunked": lambda: chunked.infer(rows),
            "single": lambda: [engine.infer(rows[i : i + 1]) for i in range(frames)],
        },
        effort.chunked_rounds,
    )
    engine.close()
    ratio = paired_ratio(took_ms["single"], took_ms["chunked"])
    meaning = f"throughput of {frames} frames in chunks of {cap} over single frames, CPU"
    result.add("chunked_over_batch1", ratio, "times", meaning, CHUNKED_BAR)
    for name, values in took_ms.items():
        per_second = frames / percentile(values, 50) * 1e3
        result.add(f"{name}_frames_per_s", per_second, "/s", f"{PARTS_MODEL.name}, {name}")


if __name__ == "__main__":
    main()
