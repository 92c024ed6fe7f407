"""How busy the GPU is and what the machine draws, recorded while something is measured."""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
from collections import deque
from pathlib import Path
from typing import Callable, Deque, Dict, Iterator, Optional, Protocol, Sequence, Tuple

from edge.health.board import read_gpu_load
from edge.health.nvidia_smi import Card, CardLoad
from edge.health.rails import read_rails, total_power
from edge.threads import SupervisedThread

log = logging.getLogger(__name__)

INTERVAL_S = 0.25

# Half an hour of readings: who measures for longer asks for the recent ones.
_KEPT = 7200
_JOIN_S = 2.0

Reading = Tuple[int, Dict[str, float]]
"""When, in monotonic nanoseconds, and what: flat numbers with their unit in the key."""


class LoadSource(Protocol):
    """Where readings come from; `power_of` says in words what draws the power."""

    @property
    def power_of(self) -> str:
        """What the watts are of."""

    def readings(self) -> Iterator[Dict[str, float]]:
        """`gpu_utilization` 0..1 and `power_w`, several times a second, until `close`."""

    def close(self) -> None:
        """Ends the readings."""


class JetsonLoad:
    """A Jetson's sensors, under `root`/sys."""

    def __init__(self, root: Path = Path("/"), interval_s: float = INTERVAL_S) -> None:
        self._root = root
        self._interval_s = interval_s
        self._closed = threading.Event()
        power = total_power(read_rails(root))
        self.power_of = "" if power is None else power.rails

    def read(self) -> Dict[str, float]:
        """One reading; what the machine lacks is absent."""
        load: Dict[str, float] = {}
        busy, power = read_gpu_load(self._root), total_power(read_rails(self._root))
        if busy is not None:
            load["gpu_utilization"] = busy
        if power is not None:
            load["power_w"] = power.watts
        return load

    def readings(self) -> Iterator[Dict[str, float]]:
        """Each reading as it comes, until `close`."""
        while not self._closed.wait(self._interval_s):
            yield self.read()

    def close(self) -> None:
        """Ends the readings."""
        self._closed.set()


def open_load(card: Optional[Card], root: Path = Path("/")) -> Optional[LoadSource]:
    """What tells the load here: a Jetson's sensors, else the driver of `card`; None elsewhere."""
    jetson = JetsonLoad(root)
    if jetson.read():
        return jetson
    if card is None:
        return None
    try:
        return CardLoad(card, INTERVAL_S)
    except OSError as error:
        log.info("the load of %s cannot be read: %s", card.name, error)
        return None


class LoadRecorder:
    """Records a source in a thread of its own, on the clock that `monotonic_ns` reads."""

    def __init__(self, source: LoadSource, monotonic_ns: Callable[[], int]) -> None:
        self._source = source
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._readings: Deque[Reading] = deque(maxlen=_KEPT)
        # What fails here is logged, and absent from then on: it is no part of the measurement.
        self._thread = SupervisedThread("load", self._record, lambda name, error: None)
        self._thread.start()

    def mean(self, start_ns: int, end_ns: int) -> Dict[str, float]:
        """Each number's mean between two moments; what was not read in between is absent."""
        with self._lock:
            readings = tuple(self._readings)
        return mean_between(readings, start_ns, end_ns)

    def close(self) -> None:
        """Ends the source."""
        self._source.close()
        self._thread.join(_JOIN_S)

    def _record(self) -> None:
        with contextlib.closing(self._source):
            for reading in self._source.readings():
                with self._lock:
                    self._readings.append((self._monotonic_ns(), reading))


def mean_between(readings: Sequence[Reading], start_ns: int, end_ns: int) -> Dict[str, float]:
    """Each number's mean over the readings from `start_ns` to `end_ns`."""
    inside = [reading for at_ns, reading in readings if start_ns <= at_ns <= end_ns]
    keys = dict.fromkeys(key for reading in inside for key in reading)
    return {
        key: statistics.mean(reading[key] for reading in inside if key in reading) for key in keys
    }
