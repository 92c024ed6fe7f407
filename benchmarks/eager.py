"""The peer of `benchmarks.throughput`: a picture at a time through PyTorch, as most begin."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Optional

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.yolo_network import Detector, as_input
from edge.geometry import Image

_SCORE_THRESHOLD = 0.25
_IOU_THRESHOLD = 0.5
_CLASS_OFFSET_PX = 7680.0  # what keeps the classes' boxes apart, wider than any picture


class EagerDetector:
    """Finds the objects of one letterboxed picture; torch's defaults, no gradients."""

    def __init__(self, network: Detector, device: str) -> None:
        self._network = network.to(device)
        self._device = device
        self._nms = _torchvision_nms()

    @property
    def suppression(self) -> str:
        """Whose non-maximum suppression it uses."""
        return "cv2.dnn.NMSBoxes" if self._nms is None else "torchvision.ops.nms"

    def detect(self, frame: Image) -> NDArray[np.float32]:
        """The kept rows [n, 6] of a frame uint8 [H, W, 3] BGR, made float on the CPU."""
        with torch.inference_mode():
            images = as_input(frame[np.newaxis]).to(self._device)
            return self._kept(self._network(images).cpu()[0])

    def detect_lean(self, frame: Image) -> NDArray[np.float32]:
        """The same with bytes sent to the device and made float there."""
        with torch.inference_mode():
            planes = np.ascontiguousarray(frame[np.newaxis, ..., ::-1].transpose(0, 3, 1, 2))
            images = torch.from_numpy(planes).to(self._device).float() / 255
            return self._kept(self._network(images).cpu()[0])

    def scores(self, frames: Image, count: int) -> NDArray[np.float32]:
        """The `count` best scores [B, count] of all anchors, the best first."""
        with torch.inference_mode():
            output = self._network(as_input(frames).to(self._device))
            best: NDArray[np.float32] = output[:, 4:].amax(dim=1).topk(count).values.cpu().numpy()
            return best

    def _kept(self, anchors: torch.Tensor) -> NDArray[np.float32]:
        """Suppressed rows of one picture's anchors [4 + classes, anchors]."""
        scores, classes = anchors[4:].max(dim=0)
        chosen = scores > _SCORE_THRESHOLD
        boxes, scores, classes = anchors[:4, chosen].T, scores[chosen], classes[chosen]
        corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
        kept = self._suppress(corners + classes[:, None] * _CLASS_OFFSET_PX, scores)
        rows: NDArray[np.float32] = torch.cat(
            (corners, scores[:, None], classes[:, None].float()), dim=1
        ).numpy()[kept]
        return rows

    def _suppress(self, corners: torch.Tensor, scores: torch.Tensor) -> NDArray[np.int64]:
        if self._nms is not None:
            return np.asarray(self._nms(corners, scores, _IOU_THRESHOLD))
        sizes = corners[:, 2:] - corners[:, :2]
        boxes = torch.cat((corners[:, :2], sizes), dim=1).tolist()
        kept = cv2.dnn.NMSBoxes(boxes, scores.tolist(), 0.0, _IOU_THRESHOLD)
        return np.asarray(kept, np.int64).reshape(-1)


def _torchvision_nms() -> Optional[Callable[..., Any]]:
    try:
        ops = importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError):  # the latter where it was made for another torch
        return None
    nms: Callable[..., Any] = ops.nms
    return nms
