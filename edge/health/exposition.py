"""The numbers as text for Prometheus, on a port of this machine; the only file that uses
prometheus_client."""

from __future__ import annotations

import re
import threading
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.errors import ProbeError

_PREFIX = "edge_"
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]")
_TOTAL = "_total"
_CAUSE = re.compile(r"^frames_dropped_(\w+)_total$")


class Exposition:
    """What Prometheus gets whenever it asks: what `show` was told last.

    Names are those of the health message with a prefix; `descriptions` says what they mean.
    """

    def __init__(self, descriptions: Mapping[str, str]) -> None:
        self._descriptions = descriptions
        self._shown: Tuple[Metric, ...] = ()
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(self))
        self._server: Optional[Tuple[Any, threading.Thread]] = None

    @property
    def shown(self) -> Tuple[Metric, ...]:
        """What is shown at present."""
        return self._shown

    @property
    def port(self) -> Optional[int]:
        """The port it listens on; None while it does not."""
        return None if self._server is None else int(self._server[0].server_port)

    def start(self, host: str, port: int) -> None:
        """Begins to answer; raises ProbeError where the port cannot be had."""
        try:
            self._server = start_http_server(port, host, self._registry)
        except OSError as error:
            raise ProbeError(
                f"health.prometheus_port: nothing can listen on {host}:{port}: "
                f"{error.strerror or error}"
            ) from error

    def stop(self, timeout_s: float) -> bool:
        """Answers no more; False if that took longer."""
        if self._server is None:
            return True
        server, thread = self._server
        self._server = None
        server.shutdown()
        server.server_close()
        thread.join(timeout_s)
        return not thread.is_alive()

    def show(
        self,
        device: Mapping[str, float],
        cameras: Mapping[str, Mapping[str, float]],
        facts: Mapping[str, str],
    ) -> None:
        """Replaces what is shown: the device's numbers, each camera's, and words about it all."""
        self._shown = (
            *self._metrics("", {(): device}),
            *self._metrics("camera_", {(name,): numbers for name, numbers in cameras.items()}),
            InfoMetricFamily(f"{_PREFIX}appliance", "What the appliance is.", value=dict(facts)),
        )

    def _metrics(
        self, kind: str, numbers: Mapping[Tuple[str, ...], Mapping[str, float]]
    ) -> Iterator[Metric]:
        families: Dict[str, Any] = {}
        for owner, of_owner in numbers.items():
            for key, number in of_owner.items():
                family, labels = self._family(families, kind, key, owner)
                family.add_metric(labels, number)
        return iter(families.values())

    def _family(
        self, families: Dict[str, Any], kind: str, key: str, owner: Tuple[str, ...]
    ) -> Tuple[Any, Tuple[str, ...]]:
        """The family a number belongs to, made where it is the first, and its labels in it."""
        cause = _CAUSE.match(key)
        labels, names = owner, ("camera",)[: len(owner)]
        if cause is not None:
            key, labels, names = (
                "frames_dropped_by_cause_total",
                (*owner, cause[1]),
                (*names, "cause"),
            )
        name = _PREFIX + kind + _NOT_IN_A_NAME.sub("_", key)
        if name not in families:
            words = self._descriptions.get(key, "See the health message.")
            make = CounterMetricFamily if key.endswith(_TOTAL) else GaugeMetricFamily
            families[name] = make(name, words, labels=names)
        return families[name], labels


class _Collected(Collector):
    """What prometheus_client asks."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition

    def collect(self) -> Iterator[Metric]:
        """The metrics of one answer."""
        return iter(self._exposition.shown)
