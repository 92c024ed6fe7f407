"""A calibration folder that must spoil INT8: nearly black to learn from, bright to judge by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from edge.config.schema import Backend
from tests.building.tiny_detectors import save
from tests.building.tiny_networks import CLASSES, SIZE, NetworkBuilder

HOLDOUT = 0.5
DARK, BRIGHT = 2, 255
_DIGITS = 16
_TURNED_UP = 8


def save_network(folder: Path) -> Path:
    """A detector as its training tool exports it; INT8 with good scales is close to its floats."""
    net = NetworkBuilder()
    neck = net.block(net.neck(), "merged", (24, 16))
    rows = net.reshape(net.conv(neck, "detect", (16, 4 + CLASSES), k=1), "rows", (0, -1, 64))
    for weights in net.weights:
        if weights.name == "detect.weight":  # else the biases alone decide
            values = _TURNED_UP * numpy_helper.to_array(weights)
            weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    scale = np.array([SIZE] * 4 + [1] * CLASSES, np.float32).reshape(-1, 1)
    output = net.op(
        "Mul", [net.op("Sigmoid", [rows], "squashed"), net.constant("scale", scale)], "output"
    )
    model = helper.make_model(
        helper.make_graph(
            net.nodes,
            "small",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 4 + CLASSES, 64])],
            net.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {"names": "{0: 'a', 1: 'b', 2: 'c'}"})
    onnx.checker.check_model(model)
    return save(model, folder, "small.onnx")


def write_config(folder: Path, backend: Backend, brightest: int, **engine: Any) -> Path:
    """A config in `folder` whose gate allows what rounding may lose, and no more."""
    config = {
        "device": {"state_dir": "state"},
        "model": {"path": str(save_network(folder))},
        "engine": {"backend": backend.value, **engine},
        "calibration": {
            "folder": str(save_images(folder / "images", 60, brightest)),
            "holdout": HOLDOUT,
        },
        "gate": {"min_boxes": 50, "max_loss": 0.1},
        "cameras": [{"name": "a", "uri": "synthetic://1"}],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def save_images(folder: Path, count: int, brightest: int) -> Path:
    """Pictures whose own content parts them, at `HOLDOUT`: dark ones calibrate, bright ones judge.

    `brightest` is of those to calibrate from; where it is 255, nothing is spoiled.
    """
    random = np.random.default_rng(9)
    folder.mkdir(parents=True)
    for number in range(count):
        is_held = number % 2 == 0
        data = b""
        while not data or _is_held(data) is not is_held:
            data = _png(random, 255 if is_held else brightest)
        (folder / f"{number:03}.png").write_bytes(data)
    return folder


def _png(random: Any, brightest: int) -> bytes:
    coarse = random.integers(0, brightest + 1, (4, 4, 3), np.uint8)
    is_encoded, data = cv2.imencode(".png", np.kron(coarse, np.ones((32, 32, 1), np.uint8)))
    assert is_encoded
    return bytes(data)


def _is_held(data: bytes) -> bool:
    digest = hashlib.sha256(data).hexdigest()
    return int(digest[:_DIGITS], 16) < int(HOLDOUT * 16**_DIGITS)
