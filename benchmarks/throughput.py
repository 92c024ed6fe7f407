"""What batches on two streams give on this machine's GPU, beside PyTorch with a picture at a time.

``python -m benchmarks.throughput [--backend tensorrt] [--state FOLDER] [--json] [--save NAME]``

A network of YOLOv8n's size with random weights and the demo's model run through the engines that
the daemon would make of them. Every way begins with letterboxed frames uint8 in memory; the peer
and `detected` end with suppressed boxes, the others with the engine's detections. All ways of one
batch size take turns in one process. PyTorch makes the network and is the peer; without it the
exports that an earlier run left in the folder are taken, and the peer's figures are absent.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import points, report
from benchmarks.opened import Network, Opened, Opener
from benchmarks.points import Point
from benchmarks.timing import interleave, paired_ratio, time_ms
from edge.config.schema import Backend, Precision
from edge.errors import BuildError, EdgeError, EngineOutOfMemory
from edge.inference.cuda import Context

DEMO = Path(__file__).resolve().parent.parent / "edge/demo/assets/parts.onnx"
INPUT_WH = (640, 640)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
HELD_TO = 8
"""The batch that the overlap's bars are for."""

EAGER_BAR = report.Bar(">=", 8.7)
HALF_BAR = report.Bar(">=", 3.6)
COMPUTE_BAR = report.Bar(">=", 0.95)
SERIAL_BAR = report.Bar(">=", 1.0)
# The larger bar is for where there is something to hide: copies of three tenths of the compute.
SERIAL_BAR_WHERE_COPIES_COUNT = report.Bar(">=", 1.3)
SAME_BAR = report.Bar("<=", 0.05)
_COPIES_COUNT = 0.3

_LARGE = 32
_FEWEST_BATCHES = 12
_MOST_BATCHES = 400
_TRIAL_BATCHES = 3
_TRIAL_PICTURES = 4
_COMPARED_FRAMES = 4
_COMPARED_SCORES = 100

EAGER_WAYS = ("eager", "eager_lean")


@dataclass(frozen=True)
class Pace:
    """How long to measure: rounds of each batch size, and about how long a way of a round."""

    rounds: int
    way_ms: float
    batches: Sequence[int]

    def up_to(self, largest: int) -> Pace:
        """The same without larger batches."""
        return replace(self, batches=[size for size in self.batches if size <= largest])


PACE = Pace(7, 100, BATCHES)
QUICK = Pace(3, 40, (1, HELD_TO, _LARGE))


class ThroughputReport(report.Report):
    """The figures, and a table of all networks at all batch sizes."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__("throughput", options)
        self.points: List[Point] = []

    @property
    def missed(self) -> List[str]:
        """The figures that did not reach their bar."""
        bars = super().as_json()["bars"]
        return [key for key, entry in bars.items() if entry["verdict"] == "MISS"]

    def as_json(self) -> Dict[str, Any]:
        """With every point under `points`."""
        return {**super().as_json(), "points": [point.as_json() for point in self.points]}

    def table(self) -> str:
        """With the points first."""
        return "\n".join([*points.table(self.points), "", super().table()])

    def of(self, network: str) -> Dict[int, Point]:
        """A network's points by batch."""
        return {point.batch: point for point in self.points if point.network == network}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    parser = report.argument_parser(__doc__)
    names = [backend.value for backend in Backend]
    parser.add_argument("--backend", choices=names, default=Backend.ONNXRUNTIME.value)
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FOLDER",
        help="keep the exported networks, and what was built of them, for the next run",
    )
    parser.add_argument(
        "--largest",
        type=int,
        choices=BATCHES,
        default=max(BATCHES),
        help="the largest batch of one call to the engines (default 64)",
    )
    options = parser.parse_args(arguments)
    result = ThroughputReport(options)
    try:
        with contextlib.ExitStack() as made:
            result.note(_gpu())
            folder = (options.state or made.enter_context(_temporary())).absolute()
            pace = (QUICK if options.quick else PACE).up_to(options.largest)
            _run(Backend(options.backend), folder, pace, result)
    except EdgeError as error:
        sys.exit(f"throughput: {error}")
    result.publish()


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _gpu() -> str:
    with contextlib.closing(Context()) as context:
        major, minor = context.compute_capability
        return f"the GPU is an {context.device_name} (sm_{major}{minor})"


def _run(backend: Backend, folder: Path, pace: Pace, result: ThroughputReport) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    exact, half = folder / "yolo-fp32.onnx", folder / "yolo-fp16.onnx"
    eager = _make(exact, half, result)
    opener = Opener(backend, folder, max(pace.batches))
    with contextlib.ExitStack() as made:
        opened: Dict[str, Opened] = {}
        for network in _networks(backend, exact, half):
            try:
                one = made.enter_context(opener.open(network))
            except BuildError as error:
                result.note(f"{network.name} was not built: {error}")
                continue
            opened[network.name] = one
            result.note(one.words)
            peer = eager if network.name.startswith("yolo") else None
            result.points += ladder(one, peer, pace, result)
        judge(result)
        if {"yolo_fp32", "yolo_fp16"} <= set(opened):
            compare(opened, pace, result)
    if result.missed:
        for point in result.points:
            if point.batch in (1, HELD_TO, _LARGE):
                result.note(point.where_the_time_goes)


def _networks(backend: Backend, exact: Path, half: Path) -> Iterator[Network]:
    """In the order in which they are measured."""
    yield Network("yolo_fp32", exact, Precision.FP32)
    yield Network("yolo_fp16", exact, Precision.FP16, half)
    # ONNX Runtime computes in float on a GPU what a graph rounds to 8 bits.
    if backend is Backend.TENSORRT:
        yield Network("yolo_int8", exact, Precision.INT8)
    yield Network("demo", DEMO, Precision.FP16)


def _make(exact: Path, half: Path, result: report.Report) -> Optional[Any]:
    """Exports the network where that was not done before; gives the peer, if there can be one."""
    if not _has_torch():
        if not (exact.exists() and half.exists()):
            sys.exit("throughput: torch makes the network and is the peer: pip install torch")
        result.note("torch is not installed, so what is over eager is absent: pip install torch")
        return None
    yolo_network = importlib.import_module("benchmarks.yolo_network")
    network = yolo_network.make(INPUT_WH)
    for path, is_half in ((exact, False), (half, True)):
        if not path.exists():
            yolo_network.export(network, path, is_half=is_half)
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        result.note("this torch has no CUDA, so what is over eager is absent")
        return None
    eager = importlib.import_module("benchmarks.eager").EagerDetector(network, "cuda")
    tf32 = "with" if torch.backends.cudnn.allow_tf32 else "without"
    result.note(f"the peer convolves {tf32} TF32 and suppresses with {eager.suppression}")
    return eager


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


# --- measuring -------------------------------------------------------------------------------


def ladder(
    opened: Opened, eager: Optional[Any], pace: Pace, result: ThroughputReport
) -> Iterator[Point]:
    """A network's points, batch by batch, as far as the memory goes."""
    if eager is not None:
        _check_same(opened, eager, result)
    for batch in pace.batches:
        if batch > opened.streams.largest:
            return
        try:
            point = _point(opened, eager, batch, pace)
        except EngineOutOfMemory as error:
            result.note(f"{opened.name}: no batch of {batch}: {error}")
            return
        print(point.row(), file=sys.stderr, flush=True)
        yield point


def _check_same(opened: Opened, eager: Any, result: report.Report) -> None:
    frames = opened.streams.frames[:_COMPARED_FRAMES]
    ours = opened.infer(frames)[:, :_COMPARED_SCORES, 4]
    difference = float(np.abs(ours - eager.scores(frames, _COMPARED_SCORES)).max())
    meaning = f"of the {_COMPARED_SCORES} best scores, from the peer's: both compute the same"
    bar = None if opened.name.endswith("int8") else SAME_BAR
    result.add(f"largest_score_difference_{opened.name}", difference, "", meaning, bar)


def _point(opened: Opened, eager: Optional[Any], batch: int, pace: Pace) -> Point:
    streams = opened.streams
    batches = _batches(opened, batch, pace.way_ms)
    ways: Dict[str, Callable[[], object]] = {
        "compute": functools.partial(streams.compute, batch, batches),
        "serial": functools.partial(streams.serial, batch, batches),
        "overlapped": functools.partial(streams.overlapped, batch, batches),
        "detected": functools.partial(streams.detected, batch, batches, opened.collect),
    }
    frames = dict.fromkeys(ways, batch * batches)
    if eager is not None:
        for name, find in zip(EAGER_WAYS, (eager.detect, eager.detect_lean)):
            one_ms = time_ms(functools.partial(_one_by_one, find, opened, _TRIAL_PICTURES))
            frames[name] = max(_FEWEST_BATCHES, int(pace.way_ms / (one_ms / _TRIAL_PICTURES)))
            ways[name] = functools.partial(_one_by_one, find, opened, frames[name])
    streams.host_times()  # what came before is not of this point
    took_ms = interleave(ways, pace.rounds)
    per_frame = {way: [ms / frames[way] for ms in values] for way, values in took_ms.items()}
    return Point(opened.name, batch, per_frame, streams.host_times(), streams.stages(batch))


def _batches(opened: Opened, batch: int, way_ms: float) -> int:
    """As many as take about so long; the first ones, which warm up, are not counted."""
    trial = functools.partial(opened.streams.serial, batch, _TRIAL_BATCHES)
    trial()
    return min(max(_FEWEST_BATCHES, int(way_ms / (time_ms(trial) / _TRIAL_BATCHES))), _MOST_BATCHES)


def _one_by_one(find: Callable[[Any], object], opened: Opened, pictures: int) -> None:
    frames = opened.streams.frames
    for number in range(pictures):
        find(frames[number % len(frames)])


# --- judging ---------------------------------------------------------------------------------


def judge(result: ThroughputReport) -> None:
    """The figures that come of the points."""
    at_bar = [point for point in result.points if point.batch == HELD_TO]
    for point in at_bar:
        _judge_overlap(point, result)
    if at_bar:
        ratio = min(point.ratio("overlapped", "compute") for point in at_bar)
        meaning = "two streams over compute alone, the lowest of these networks"
        result.add("overlap_over_compute", ratio, "times", meaning, COMPUTE_BAR)
        ratio = min(point.ratio("overlapped", "serial") for point in result.points)
        meaning = "two streams over one after the other, the lowest of all points"
        result.add("overlap_over_serial_lowest", ratio, "times", meaning, SERIAL_BAR)
    for name in ("yolo_fp32", "yolo_fp16", "yolo_int8"):
        reached = list(result.of(name).values())
        if reached:
            best = max(reached, key=lambda point: point.fps("detected"))
            _judge_best(best, result)


def _judge_overlap(point: Point, result: report.Report) -> None:
    name, batch = point.network, f"batches of {point.batch}"
    share = point.copy_over_compute
    meaning = f"the upload's time over the compute's, {batch}"
    result.add(f"copy_over_compute_{name}", share, "times", meaning)
    ratio = point.ratio("overlapped", "compute")
    meaning = f"two streams over compute alone, {batch}"
    result.add(f"overlap_over_compute_{name}", ratio, "times", meaning)
    ratio = point.ratio("overlapped", "serial")
    bar = SERIAL_BAR_WHERE_COPIES_COUNT if share >= _COPIES_COUNT else SERIAL_BAR
    meaning = f"two streams over one after the other, {batch}"
    result.add(f"overlap_over_serial_{name}", ratio, "times", meaning, bar)
    for way in ("serial", "overlapped"):
        meaning = f"p50 from launch to result, {way}, {batch}, as fast as they go"
        latency_ms = point.host[way].latency_ms
        result.add(f"latency_{way}_ms_{name}", latency_ms, "ms", meaning)


def _judge_best(best: Point, result: report.Report) -> None:
    name = best.network
    words = f"batches of {best.batch}, two streams, to suppressed boxes"
    result.add(f"best_fps_{name}", best.fps("detected"), "/s", words)
    if EAGER_WAYS[0] not in best.ms_per_frame:
        return
    suffix, bar = ("", EAGER_BAR) if name == "yolo_fp16" else (f"_{name}", None)
    meaning = f"{name}, {words}, over PyTorch eager, one picture at a time"
    ratio = best.ratio("detected", "eager")
    result.add(f"best_over_eager_batch1{suffix}", ratio, "times", meaning, bar)
    ratio = best.ratio("overlapped", "eager")
    meaning = "the same with our boxes left unsuppressed"
    result.add(f"best_over_eager_batch1_unsuppressed_{name}", ratio, "times", meaning)
    ratio = best.ratio("detected", "eager_lean")
    meaning = "the same over a peer that makes its floats on the GPU"
    result.add(f"best_over_lean_eager_batch1_{name}", ratio, "times", meaning)
    for way in EAGER_WAYS:
        result.add(f"{way}_fps_{name}", best.fps(way), "/s", "PyTorch eager, beside that")


def compare(opened: Dict[str, Opened], pace: Pace, result: report.Report) -> None:
    """Precisions beside each other, on two streams."""
    half = opened["yolo_fp16"]
    large = min(_LARGE, half.streams.largest)
    ratio = _ratio(half, large, opened["yolo_fp32"], 1, pace)
    meaning = f"two streams, half precision in batches of {large} over single floats"
    result.add("fp16_b32_over_fp32_b1", ratio, "times", meaning, HALF_BAR)
    rounded = opened.get("yolo_int8")
    if rounded is not None:
        ratio = _ratio(rounded, large, half, large, pace)
        meaning = f"two streams, batches of {large} in both"
        result.add("int8_over_fp16", ratio, "times", meaning)


def _ratio(ours: Opened, our_batch: int, theirs: Opened, their_batch: int, pace: Pace) -> float:
    """Throughput of one over the other's, in turn."""
    runs = {"ours": (ours, our_batch), "theirs": (theirs, their_batch)}
    ways: Dict[str, Callable[[], object]] = {}
    frames: Dict[str, int] = {}
    for name, (opened, batch) in runs.items():
        batches = _batches(opened, batch, pace.way_ms)
        ways[name] = functools.partial(opened.streams.overlapped, batch, batches)
        frames[name] = batch * batches
    took_ms = interleave(ways, pace.rounds)
    ours_ms, theirs_ms = ([ms / frames[name] for ms in took_ms[name]] for name in runs)
    return paired_ratio(theirs_ms, ours_ms)


if __name__ == "__main__":
    main()
