"""Runs calibration images through a network and notes which values its tensors take."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.building.toolchain import CalibrationFeed
from edge.building.value_ranges import Histogram
from edge.cgroup import usable_cpus
from edge.config.schema import Precision
from edge.errors import BuildError
from edge.geometry import Image
from edge.inference.onnxruntime import errors_of, import_onnxruntime
from edge.records import BuildPhase, BuildProgress, OnProgress


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    feed: CalibrationFeed,
    fixed_batch: int,
    on_progress: OnProgress,
) -> Dict[str, Histogram]:
    """Histograms of float tensors of a deployed graph, by name, over all batches of the feed.

    Memory holds the tensors of `fixed_batch` frames at a time. Raises BuildError if fewer batches
    came than were promised, or a tensor holds no numbers; what reading the images raises goes up.
    """
    histograms = {name: Histogram() for name in tensors}
    run = _open(_with_outputs(model, tensors))
    delivered = 0
    for batch in feed.batches():
        for frames in _parts(batch, fixed_batch):
            for name, values in zip(tensors, run(frames)):
                _add(histograms[name], name, values)
        delivered += 1
        on_progress(_progress(delivered, feed.count, len(batch)))
    if delivered != feed.count:
        raise BuildError(
            f"calibration got {delivered} of {feed.count} batches; look for what changed in the "
            "calibration folder"
        )
    return histograms


Run = Callable[[Image], List[NDArray[np.float32]]]
"""From frames to the network's outputs, in order."""


def _open(model: onnx.ModelProto) -> Run:
    ort = import_onnxruntime()
    errors = errors_of(ort)
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena would keep the peak of every tensor to the end.
    options.enable_cpu_mem_arena = False
    graph_input = model.graph.input[0].name

    def translated(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except errors as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise BuildError(f"ONNX Runtime cannot run the calibration: {reason}") from error

    session = translated(
        ort.InferenceSession, model.SerializeToString(), options, ["CPUExecutionProvider"]
    )

    def run(frames: Image) -> List[NDArray[np.float32]]:
        values: List[NDArray[np.float32]] = translated(session.run, None, {graph_input: frames})
        return values

    return run


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    for name in tensors:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        observed.graph.output.append(value)
    return observed


def _parts(batch: Image, size: int) -> Iterator[Image]:
    if len(batch) % size:
        raise BuildError(
            f"calibration batches have {len(batch)} images, but the network takes {size} at once; "
            f"set calibration.batch to a multiple of {size}"
        )
    return (batch[start : start + size] for start in range(0, len(batch), size))


def _add(histogram: Histogram, name: str, values: NDArray[np.float32]) -> None:
    histogram.add(values)
    if not histogram.is_finite:
        raise BuildError(
            f"tensor '{name}' holds no numbers (NaN or infinite) for a calibration image: the "
            "network's weights are damaged or too large; export it again in float32"
        )


def _progress(done: int, total: int, batch: int) -> BuildProgress:
    share = min(done / total, 1.0) if total else None
    return BuildProgress(
        BuildPhase.CALIBRATING, Precision.INT8, share, f"{done * batch} of {total * batch} images"
    )
