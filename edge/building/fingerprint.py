"""Why an engine that was built before may serve again, or what has changed since."""

from __future__ import annotations

import hashlib
from typing import Any, List, Optional, Tuple

from pydantic import BaseModel, ConfigDict

from edge.config.schema import CalibrationMethod, Precision, TacticSource
from edge.records import DeployedGraph, Lane


class Key(BaseModel):
    """What a file on the disk was made with; it means nothing for anything else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def differences(self, now: Key) -> List[str]:
        """What is another thing `now`, in words."""
        return list(_differences(self.model_dump(mode="json"), now.model_dump(mode="json")))


class GraphKey(Key):
    """The network: the user's file, and what this program made of it."""

    model_sha256: str
    graph_sha256: str
    head: str
    preprocessing: str

    @classmethod
    def of(cls, graph: DeployedGraph) -> GraphKey:
        """The key of a deployed graph."""
        spec = graph.preprocessing
        width, height = spec.input_wh
        return cls(
            model_sha256=graph.sha256,
            graph_sha256=hashlib.sha256(graph.onnx_bytes).hexdigest(),
            head=graph.head,
            preprocessing=f"{width}x{height} {spec.channel_order.value} /{spec.divisor:g} "
            f"{spec.pad_anchor.value}",
        )


class CalibrationKey(Key):
    """The images an INT8 engine was calibrated and judged with, and how."""

    images_sha256: str
    method: CalibrationMethod
    batch: int
    holdout: float
    max_loss: float
    min_boxes: int


class BackendKey(Key):
    """What built the engine, and for which device; its files serve nowhere else.

    `lane` is whose frames it is for, where that makes it another engine.
    """

    name: str
    version: str
    device: str
    compute_capability: str = ""
    opt_batch: int = 0
    max_batch: int = 0
    dla_core: Optional[int] = None
    sparse_weights: bool = False
    tactic_sources: Optional[Tuple[TacticSource, ...]] = None
    lane: Lane = Lane.BATCH


RECIPE = 1
"""How this program makes and judges engines; raised where a change must not spare the old ones."""


class Fingerprint(Key):
    """All that decides what an engine is. Memory given to the builder is not in it: it changes
    only how fast the engine is, and free memory is never the same twice."""

    precision: Precision
    graph: GraphKey
    backend: BackendKey
    calibration: Optional[CalibrationKey] = None
    recipe: int = RECIPE


def _differences(before: Any, now: Any, name: str = "") -> List[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            line
            for key in keys
            for line in _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{name} was {_short(before)} and is {_short(now)}"]


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    # A digest says no more in full.
    return f"{text[:12]}…" if len(text) == 64 else text
