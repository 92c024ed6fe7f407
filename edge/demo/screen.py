"""The demo's live table."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Optional, Type

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.records import (
    CameraCounters,
    CameraState,
    EngineInfo,
    PipelineCounters,
    PublisherCounters,
)

# A log file or a pipe gets a line this often instead of a moving table.
PLAIN_PERIOD_S = 2.0

_STATE_STYLE = {
    CameraState.ONLINE: "green",
    CameraState.STARTING: "yellow",
    CameraState.STALLED: "red",
    CameraState.OFFLINE: "red",
}


class Screen:
    """Shows the counters on stderr, so that stdout stays free for the summary.

    A terminal gets a table that is redrawn in place; anything else a line every two seconds.
    """

    def __init__(self, subscribe_line: str) -> None:
        self._console = Console(stderr=True)
        self._subscribe_line = subscribe_line
        self._live: Optional[Live] = None
        self._next_line_s = 0.0

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.__enter__()
        else:
            self._say(f"subscribe with: {self._subscribe_line}")
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(
        self,
        seconds: float,
        engine: Optional[EngineInfo],
        pipeline: PipelineCounters,
        publisher: PublisherCounters,
    ) -> None:
        """Draws the counters as they are `seconds` after the start."""
        if self._live is not None:
            table = camera_table(pipeline)
            status = status_text(seconds, engine, pipeline, publisher)
            hint = Text(f"  {self._subscribe_line}   (Ctrl-C ends)", style="cyan")
            self._live.update(Group(status, hint, table), refresh=True)
        elif seconds >= self._next_line_s:
            self._next_line_s = seconds + PLAIN_PERIOD_S
            self._say(plain_line(seconds, pipeline, publisher))

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


def camera_table(pipeline: PipelineCounters) -> Table:
    """One row per camera."""
    table = Table(expand=False, header_style="bold")
    table.add_column("camera")
    table.add_column("state")
    for title in ("fps in", "fps out", "found", "dropped", "p50 ms", "p99 ms"):
        table.add_column(title, justify="right")
    for name, camera in pipeline.cameras.items():
        state = camera.status.state
        table.add_row(
            name,
            Text(_state_words(camera), style=_STATE_STYLE.get(state, "dim")),
            f"{camera.fps_read:.1f}",
            f"{camera.fps_inferred:.1f}",
            str(camera.detections),
            str(sum(camera.dropped.values())),
            _ms(camera.latency_ms_p50),
            _ms(camera.latency_ms_p99),
        )
    return table


def status_text(
    seconds: float,
    engine: Optional[EngineInfo],
    pipeline: PipelineCounters,
    publisher: PublisherCounters,
) -> Text:
    """The lines above the table: engine, batches, broker."""
    text = Text()
    text.append(" edge demo ", style="bold reverse")
    runs_on = f"{engine.backend} {engine.version} on {engine.device}" if engine else "starting"
    text.append(f"  {seconds:.0f} s   {runs_on}\n")
    text.append(
        f"  batch {pipeline.batch_size_mean:.1f} frames (fill {pipeline.batch_fill:.0%})  "
        f"{pipeline.batches} batches  in flight {pipeline.in_flight}\n"
        f"  infer p50 {_ms(pipeline.infer_ms_p50)} ms  latency p50/p99 "
        f"{_ms(pipeline.latency_ms_p50)}/{_ms(pipeline.latency_ms_p99)} ms\n"
        f"  dropped: {_drop_words(pipeline)}\n"
    )
    link = "connected" if publisher.connected else publisher.error or "connecting"
    style = "green" if publisher.connected else "red"
    text.append("  broker ").append(f"{publisher.broker} {link}", style=style)
    text.append(f"   {publisher.published} messages, {publisher.queued} queued")
    lost = sum(publisher.dropped.values())
    text.append(f", {lost} dropped" if lost else "")
    return text


def plain_line(seconds: float, pipeline: PipelineCounters, publisher: PublisherCounters) -> str:
    """The same in one line."""
    cameras = "  ".join(
        f"{name} {camera.fps_inferred:.1f} fps" for name, camera in pipeline.cameras.items()
    )
    return (
        f"{seconds:5.1f} s  {cameras}  batch {pipeline.batch_size_mean:.1f}  "
        f"p50 {_ms(pipeline.latency_ms_p50)} ms  detections {pipeline.detections}  "
        f"published {publisher.published}"
    )


def _state_words(camera: CameraCounters) -> str:
    reason = camera.status.reason
    return f"{camera.status.state.value}: {reason}" if reason else camera.status.state.value


def _drop_words(pipeline: PipelineCounters) -> str:
    by_cause: Counter[str] = Counter()
    for camera in pipeline.cameras.values():
        by_cause.update({cause.value: count for cause, count in camera.dropped.items() if count})
    return ", ".join(f"{count} {cause}" for cause, count in by_cause.items()) or "none"


def _ms(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.0f}"
