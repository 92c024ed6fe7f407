"""The thread inside one source."""

from __future__ import annotations

import logging
import threading
from typing import Callable, Optional, TypeVar

from edge.capture.intake import Intake
from edge.capture.pacing import Pacer
from edge.capture.recovery import wait_for_plug
from edge.capture.source import Busy, Picture, Source
from edge.capture.watch import Abandoned, Step, Watch
from edge.clock import NS_PER_S, Clock
from edge.errors import CaptureError
from edge.threads import OnFailure, SupervisedThread

log = logging.getLogger(__name__)

T = TypeVar("T")


class Session:
    """Reads a source in a thread of its own, and opens it again whenever it fails.

    It can be abandoned while it hangs in the source (`watch`): nobody touches thread or source
    any more. Should it come back, it closes the source, delivers nothing, and ends. `is_over` once
    nothing more is to be read, although the source may still have to be closed.
    """

    def __init__(
        self,
        source: Source,
        intake: Intake,
        clock: Clock,
        stop: threading.Event,
        on_failure: OnFailure,
    ) -> None:
        self._source = source
        self._intake = intake
        self._clock = clock
        self._stop = stop
        self._delay_s = 0.0
        self.is_over = False
        self.watch = Watch(intake.config.stall_s, clock)
        self._thread = SupervisedThread(f"capture-{intake.config.name}", self._run, on_failure)

    @property
    def is_alive(self) -> bool:
        """True between the start and the thread's end."""
        return self._thread.is_alive

    def start(self, delay_s: float = 0.0) -> None:
        """Starts the thread, which opens the source after `delay_s`."""
        self._delay_s = delay_s
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread; False if the source still holds it after `timeout_s`."""
        return self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._read_until_stopped()
        except Abandoned:
            name = self._intake.config.name
            log.info("camera %s: a thread that hung has come back, and ends", name)
        finally:
            self._source.close()

    def _read_until_stopped(self) -> None:
        delay_s: Optional[float] = self._delay_s
        while delay_s is not None and not self._stop.is_set():
            if delay_s and wait_for_plug(self._stop, delay_s, self._intake.device):
                self._intake.plugged_in()
            if self._stop.is_set():
                return
            delay_s = self._open_and_read()

    def _open_and_read(self) -> Optional[float]:
        """From opening to closing; seconds until the next attempt, None if there is none."""
        delay_s: Optional[float] = None
        try:
            self._call(Step.OPEN, self._source.open)
            self._read_until_end()
        except Busy:
            return 0.0
        except CaptureError as error:
            # Told before closing, which may take its time too.
            delay_s = self._intake.lost(str(error))
        self.is_over = delay_s is None
        self._call(Step.CLOSE, self._source.close)
        return delay_s

    def _read_until_end(self) -> None:
        pacer = Pacer()
        self._intake.begin()
        while not self._stop.is_set():
            picture = self._call(Step.READ, self._source.read)
            if picture is None:
                self._intake.ended()
                return
            if self._is_stopped_before_due(picture, pacer):
                return
            self._intake.take(picture)

    def _is_stopped_before_due(self, picture: Picture, pacer: Pacer) -> bool:
        if picture.media_s is None:
            return False
        now_ns = self._clock.monotonic_ns()
        wait_ns = pacer.due_ns(picture.media_s, now_ns) - now_ns
        return wait_ns > 0 and self._stop.wait(wait_ns / NS_PER_S)

    def _call(self, step: Step, call: Callable[[], T]) -> T:
        self.watch.begin(step)
        try:
            return call()
        finally:
            self.watch.end()
