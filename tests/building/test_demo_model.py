"""The trained model that ships with the product goes through the same mill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import edge.demo
from edge.building.graph import deploy
from edge.config.schema import ModelConfig
from tests.building.tiny_detectors import random_frames, reference_detections, run_onnx

PARTS = Path(edge.demo.__file__).parent / "assets" / "parts.onnx"


def test_equals_the_network_between_numpy() -> None:
    graph = deploy(PARTS, ModelConfig(path=PARTS))
    assert graph.preprocessing.input_wh == (320, 320)
    assert not any(name.startswith("class_") for name in graph.class_names)
    frames = random_frames(2, (320, 320))
    found = run_onnx(graph.onnx_bytes, {"frames": frames})
    expected = reference_detections(onnx.load(str(PARTS)), frames, graph.max_candidates)
    np.testing.assert_allclose(found[..., 4], expected[..., 4], atol=1e-3)
    # Beyond the best, near-equal scores may swap places by rounding.
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-3)
