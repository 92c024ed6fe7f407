"""`edge demo`: the real daemon on bundled cameras, with a broker of its own and a live table."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence

from edge.config.load import load
from edge.config.schema import Config
from edge.demo.broker import LOOPBACK, DemoBroker
from edge.demo.gallery import Gallery
from edge.demo.screen import Screen
from edge.demo.summary import summary
from edge.errors import EdgeError
from edge.records import EngineInfo, FrameResult, PipelineCounters, PublisherCounters

ASSETS = Path(__file__).parent / "assets"
CONFIG = ASSETS / "config.yaml"
_GALLERY_TIMEOUT_S = 5.0


class Daemon(Protocol):
    """The app, as the demo sees it."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names by class id, empty until the model is loaded."""

    @property
    def engine_info(self) -> Optional[EngineInfo]:
        """What serves; None until it does."""

    def run(self, on_tick: Callable[[], None]) -> None:
        """Runs until told to stop; `on_tick` is called several times a second while it serves."""

    def counters(self) -> PipelineCounters:
        """What the pipeline did."""

    def publisher_counters(self) -> PublisherCounters:
        """What was published."""


class MakeDaemon(Protocol):
    """Makes the app."""

    def __call__(
        self,
        config: Config,
        base_dir: Path,
        stop: threading.Event,
        *,
        on_result: Optional[Callable[[FrameResult], None]],
        keep_images: bool,
    ) -> Daemon:
        """The app, not yet started."""


def show(
    make_daemon: MakeDaemon,
    stop: threading.Event,
    seconds: Optional[float] = None,
    save_dir: Optional[Path] = None,
) -> Dict[str, Any]:
    """Runs the demo for `seconds`, or until `stop`; returns the summary."""
    gallery = None if save_dir is None else Gallery(save_dir, lambda: daemon.class_names)
    failures: List[BaseException] = []

    def on_gallery_failure(name: str, error: BaseException) -> None:
        failures.append(error)
        stop.set()

    if gallery is not None:
        gallery.start(on_gallery_failure)
    with DemoBroker() as broker, tempfile.TemporaryDirectory(prefix="edge-demo-") as state:
        environ = {"EDGE_DEMO_PORT": str(broker.port), "EDGE_DEMO_STATE": state}
        daemon = make_daemon(
            load(CONFIG, environ),
            ASSETS,
            stop,
            on_result=None if gallery is None else gallery.offer,
            keep_images=gallery is not None,
        )
        subscribe = f"mosquitto_sub -h {LOOPBACK} -p {broker.port} -t 'edge/#' -v"
        with Screen(subscribe) as screen:
            elapsed_s = _run(daemon, stop, screen, seconds)
        result = summary(
            elapsed_s, daemon.engine_info, daemon.counters(), daemon.publisher_counters()
        )
        if gallery is not None:
            result["saved"] = gallery.finish(_GALLERY_TIMEOUT_S)
        if failures:
            raise EdgeError(f"the pictures could not be saved: {failures[0]!r}")
        return result


def _run(daemon: Daemon, stop: threading.Event, screen: Screen, seconds: Optional[float]) -> float:
    """Serves until `stop` or for `seconds`; returns for how long it did."""
    started_s: Optional[float] = None
    elapsed_s = 0.0

    def on_tick() -> None:
        nonlocal started_s, elapsed_s
        if started_s is None:
            started_s = time.monotonic()
        elapsed_s = time.monotonic() - started_s
        screen.show(elapsed_s, daemon.engine_info, daemon.counters(), daemon.publisher_counters())
        if seconds is not None and elapsed_s >= seconds:
            stop.set()

    daemon.run(on_tick)
    return elapsed_s
