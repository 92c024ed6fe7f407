"""Exports a checkpoint to ONNX: ``python -m edge.demo.training.export parts.pt parts.onnx``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, Optional, Sequence

import numpy as np
import onnx
import onnxruntime
import torch

from edge.demo.scene import CLASS_NAMES
from edge.demo.training.network import MODEL_SIZE_PX, STRIDES_PX, Detector
from edge.demo.training.train import load_checkpoint

_OPSET = 17
# TensorRT 8.5's parser refuses newer files.
_IR_VERSION = 8
_MAX_SCORE_ERROR = 1e-3
_MAX_BOX_ERROR_PX = 0.05


def model_metadata() -> Dict[str, str]:
    """Return the key-value pairs that describe the model to its runtime."""
    return {
        "names": str(dict(enumerate(CLASS_NAMES))),
        "task": "detect",
        "stride": str(max(STRIDES_PX)),
        "imgsz": str([MODEL_SIZE_PX, MODEL_SIZE_PX]),
        "license": "Apache-2.0",
    }


def export_onnx(network: Detector, path: Path) -> None:
    """Write the fused network with a dynamic batch axis, its metadata, and check the file."""
    fused = network.float().fuse()
    example = torch.zeros(2, 3, MODEL_SIZE_PX, MODEL_SIZE_PX)
    torch.onnx.export(
        fused,
        (example,),
        str(path),
        opset_version=_OPSET,
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
        dynamo=False,
    )
    model = onnx.load(str(path))
    model.ir_version = min(model.ir_version, _IR_VERSION)
    _, channels, anchors = fused(example).shape
    for dim, size in zip(model.graph.output[0].type.tensor_type.shape.dim[1:], (channels, anchors)):
        dim.dim_value = size
    onnx.helper.set_model_props(model, model_metadata())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def check_against_torch(network: Detector, path: Path) -> None:
    """Raise if ONNX Runtime and torch disagree on random images, for batches of 1 and 3."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch in (1, 3):
        images = random.random((batch, 3, MODEL_SIZE_PX, MODEL_SIZE_PX), dtype=np.float32)
        (found,) = session.run(["output0"], {"images": images})
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        error = np.abs(found - expected)
        if error[:, :4].max() > _MAX_BOX_ERROR_PX or error[:, 4:].max() > _MAX_SCORE_ERROR:
            raise ValueError(
                f"{path}: differs from torch by {error[:, :4].max()} px"
                f" and {error[:, 4:].max()} in score"
            )


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Export a checkpoint to ONNX and compare the file with torch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("onnx", type=Path)
    options = parser.parse_args(arguments)
    network = load_checkpoint(options.checkpoint).fuse()
    export_onnx(network, options.onnx)
    check_against_torch(network, options.onnx)


if __name__ == "__main__":
    main()
