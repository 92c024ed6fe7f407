"""What was measured, in lines for people."""

from __future__ import annotations

import platform
from typing import Callable, Iterator, List, Mapping, Sequence

from edge.bench.measurement import Subject
from edge.bench.trial import SIZE_WH, TrialResult
from edge.building.tune import DeviceTiming, Rung
from edge.health.board import Board, Clocks
from edge.health.nvidia_smi import Card
from edge.records import EngineInfo

_UNKNOWN = "-"

_HEADER = "batch  calls  repeats   p50 ms   p99 ms  frames/s   +/- %  cpu %  memory MiB  MiB/row"
_DEVICE_TITLES = (
    "batch",
    "overlapped/s",
    "serial/s",
    " alone/s",
    "over serial",
    "over alone",
    "  up ms",
    "compute ms",
    "down ms",
)
_LOAD_TITLES = ("batch", "gpu %", "power W", "frames/J")


def board_lines(board: Board, cores: int) -> Iterator[str]:
    """The machine, as far as it says."""
    named = board.module or board.cpu
    releases = [f"L4T {board.l4t}"] if board.l4t else []
    releases += [f"JetPack {board.jetpack}"] if board.jetpack else []
    machine = [*([named] if named else []), f"{cores} cores", platform.machine(), *releases]
    yield f"machine   {', '.join(machine)}"
    if board.power_mode:
        yield f"power     mode {board.power_mode} (nvpmodel)"
    clocks = [("GPU", board.gpu_clocks), ("CPU", board.cpu_clocks)]
    known = [(name, clock) for name, clock in clocks if clock is not None]
    if known:
        yield f"clocks    {'; '.join(_clock_words(name, clock) for name, clock in known)}"
    if board.module and any(not clock.is_locked for _, clock in known):
        yield "          they follow the load; `sudo jetson_clocks` locks them"


def card_line(card: Card) -> str:
    """A graphics card."""
    clock = "" if card.highest_mhz is None else f", up to {card.highest_mhz:.0f} MHz"
    limit = "" if card.limit_w is None else f", limited to {card.limit_w:.0f} W"
    return f"card      {card.name}, driver {card.driver}{clock}{limit}"


def engine_words(engine: EngineInfo) -> str:
    """Backend, device and precision."""
    return f"{engine.backend} {engine.version} ({engine.device}, {engine.precision})"


def introduction(subject: Subject, seconds: float) -> Iterator[str]:
    """What is measured."""
    graph, engine = subject.graph, subject.engine
    width, height = graph.preprocessing.input_wh
    yield f"model     {graph.name}, input {width}x{height}"
    memory = "" if engine.memory is None else f", frames by {engine.memory.value}"
    yield f"engine    {engine_words(engine)}, loaded into {subject.load_mb:.0f} MiB{memory}"
    yield f"at once   up to {engine.max_batch} frames; larger batches run as several calls"
    yield (
        f"measuring for about {seconds:g} s, longer if the model is slow; power, where it is "
        "known, and cameras come on top; Ctrl-C ends"
    )


def table(rungs: Sequence[Rung], power_of: str) -> Iterator[str]:
    """All rungs; what only a device has, and the load, in tables of their own."""
    if not rungs:
        return
    yield _HEADER
    yield from map(_line, rungs)
    yield "memory    resident in all; MiB/row is its growth per added frame, a rough number"
    if any(rung.device for rung in rungs):
        yield _row(_DEVICE_TITLES, _DEVICE_TITLES)
        yield from (_device_line(rung, rung.device) for rung in rungs if rung.device)
        yield (
            "ways      overlapped, as the daemon runs them; serial: up, through, down, one batch "
            "after the other; alone: computing without copies"
        )
    if any(rung.load for rung in rungs):
        yield _row(_LOAD_TITLES, _LOAD_TITLES)
        yield from map(_load_line, rungs)
        if power_of:
            yield f"power     measured at {power_of}"


def trial_lines(trial: TrialResult, power_of: str) -> Iterator[str]:
    """What came through end to end."""
    width, height = SIZE_WH
    yield (
        f"cameras   {trial.cameras} synthetic ones of {width}x{height}, "
        f"{trial.offered_fps:.0f} frames/s together, for {trial.seconds:.1f} s"
    )
    dropped = [f"{count} {cause.value}" for cause, count in trial.dropped.items()]
    yield (
        f"through   {trial.fps:.1f} frames/s end to end ({trial.frames} frames), "
        f"{trial.batch_size_mean:.1f} in a batch; dropped: {', '.join(dropped) or 'none'}"
    )
    for stage, (p50_ms, p99_ms) in trial.stages.items():
        yield f"latency   {stage:16}  p50 {p50_ms:7.2f} ms  p99 {p99_ms:7.2f} ms"
    words = _load_words(trial.load, power_of)
    if words:
        yield f"load      {words}"


def _clock_words(name: str, clocks: Clocks) -> str:
    if clocks.is_locked:
        return f"{name} locked at {clocks.highest_mhz} MHz"
    return f"{name} {clocks.lowest_mhz} to {clocks.highest_mhz} MHz"


def _line(rung: Rung) -> str:
    timing = rung.timing
    return (
        f"{rung.batch:5d}  {rung.calls:5d}  {timing.repeats:7d}  {timing.latency_ms_p50:7.1f}  "
        f"{timing.latency_ms_p99:7.1f}  {timing.throughput_fps:8.1f}  {100 * timing.noise:6.1f}  "
        f"{100 * rung.cpu_utilization:5.0f}  {rung.rss_mb:10.0f}  {rung.rss_mb_per_row:7.1f}"
    )


def _device_line(rung: Rung, device: DeviceTiming) -> str:
    cells = [
        str(rung.batch),
        f"{rung.timing.throughput_fps:.1f}",
        f"{device.serial.throughput_fps:.1f}",
        f"{device.compute_alone_fps:.1f}",
        f"{device.overlap_over_serial:.3f}",
        f"{device.overlap_over_compute:.3f}",
    ]
    stages = device.stages
    if stages is None:
        cells += [_UNKNOWN] * 3
    else:
        times_ms = (stages.upload_ms, stages.compute_ms, stages.download_ms)
        cells += [f"{ms:.3f}" for ms in times_ms]
    return _row(_DEVICE_TITLES, cells)


def _load_line(rung: Rung) -> str:
    cells = [
        str(rung.batch),
        _number(rung.load, "gpu_utilization", lambda value: f"{100 * value:.0f}"),
        _number(rung.load, "power_w", lambda value: f"{value:.1f}"),
        _number(rung.load, "frames_per_joule", lambda value: f"{value:.2f}"),
    ]
    return _row(_LOAD_TITLES, cells)


def _row(titles: Sequence[str], cells: Sequence[str]) -> str:
    return "  ".join(cell.rjust(len(title)) for title, cell in zip(titles, cells))


def _load_words(load: Mapping[str, float], power_of: str) -> str:
    words: List[str] = []
    if "gpu_utilization" in load:
        words.append(f"GPU {100 * load['gpu_utilization']:.0f} %")
    if "power_w" in load:
        words.append(f"{load['power_w']:.1f} W at {power_of}")
    if "frames_per_joule" in load:
        words.append(f"{load['frames_per_joule']:.2f} frames/J")
    return ", ".join(words)


def _number(load: Mapping[str, float], key: str, words: Callable[[float], str]) -> str:
    return words(load[key]) if key in load else _UNKNOWN
