"""Refuses networks that suppress overlapping boxes themselves."""

from __future__ import annotations

import re

import onnx

from edge.errors import ModelError

# Plugins are named in many ways: EfficientNMS_TRT, BatchedNMSDynamic_TRT, multiclass_nms3.
_SUPPRESSION = re.compile("NonMaxSuppression|nms", re.IGNORECASE)


def refuse_suppression(graph: onnx.GraphProto) -> None:
    """Raises ModelError where the network ends with non-maximum suppression of its own."""
    for node in graph.node:
        if _SUPPRESSION.search(node.op_type):
            raise ModelError(
                f"has non-maximum suppression built in ({node.op_type}), so that its number of "
                "boxes depends on the picture or on one runtime's plugin; export it again without "
                "(Ultralytics: no nms=True; YOLOv6 and YOLOv7: no --end2end): edge does it outside"
            )
