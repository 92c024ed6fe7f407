"""A detector of YOLOv8n's size in plain PyTorch, with random weights, and its ONNX exports.

Layers, widths and depths are those published for YOLOv8n: 3.16 M parameters, 8.7 GFLOP for a
picture of 640x640, raw output [batch, 4 + classes, anchors].
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from benchmarks.pictures import pictures
from edge.geometry import Image

CLASS_COUNT = 80
STRIDES_PX = (8, 16, 32)
_BINS = 16  # of a box side's distance from its anchor, one stride each
_OPSET = 17

# As a picture of a busy scene has them: anchors above the usual threshold.
_BUSY_ANCHORS = 100
_THRESHOLD = 0.25
_PICTURES = 8


class ConvNormAct(nn.Module):
    """Convolution, batch norm, SiLU; once fused a convolution with bias, as it is served."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """A map of 1 / stride of the size."""
        return self.act(self.norm(self.conv(x)))

    def fuse(self) -> None:
        """Folds the norm into the convolution, for inference."""
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, in the backbone with a way around them."""

    def __init__(self, channels: int, *, is_residual: bool) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormAct(channels, channels, 3), ConvNormAct(channels, channels, 3)
        )
        self.is_residual = is_residual

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        return x + self.convs(x) if self.is_residual else self.convs(x)


class C2f(nn.Module):
    """Half of the channels goes through bottlenecks; all that they give is joined."""

    def __init__(self, inputs: int, outputs: int, depth: int, *, is_residual: bool) -> None:
        super().__init__()
        self.half = outputs // 2
        self.split = ConvNormAct(inputs, outputs)
        self.steps = nn.ModuleList(
            Bottleneck(self.half, is_residual=is_residual) for _ in range(depth)
        )
        self.join = ConvNormAct((2 + depth) * self.half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same size."""
        maps = list(self.split(x).split(self.half, dim=1))
        for step in self.steps:
            maps.append(step(maps[-1]))
        return self.join(torch.cat(maps, dim=1))


class SpatialPyramid(nn.Module):
    """SPPF: three 5x5 maximum pools in a row, all joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = ConvNormAct(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        maps = [self.reduce(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        return self.join(torch.cat(maps, dim=1))


def _branch(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(inputs, hidden, 3),
        ConvNormAct(hidden, hidden, 3),
        nn.Conv2d(hidden, outputs, 1),
    )


class Detector(nn.Module):
    """Float [B, 3, H, W] in 0..1 to [B, 4 + classes, anchors]: x, y, width, height, scores."""

    bins: Tensor
    centers: Tensor
    strides: Tensor

    def __init__(self, input_wh: Tuple[int, int]) -> None:
        super().__init__()
        self.input_wh = input_wh
        self.to_stride8 = nn.Sequential(
            ConvNormAct(3, 16, 3, 2),
            ConvNormAct(16, 32, 3, 2),
            C2f(32, 32, 1, is_residual=True),
            ConvNormAct(32, 64, 3, 2),
            C2f(64, 64, 2, is_residual=True),
        )
        self.to_stride16 = nn.Sequential(
            ConvNormAct(64, 128, 3, 2), C2f(128, 128, 2, is_residual=True)
        )
        self.to_stride32 = nn.Sequential(
            ConvNormAct(128, 256, 3, 2), C2f(256, 256, 1, is_residual=True), SpatialPyramid(256)
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.up16 = C2f(256 + 128, 128, 1, is_residual=False)
        self.up8 = C2f(128 + 64, 64, 1, is_residual=False)
        self.down16 = ConvNormAct(64, 64, 3, 2)
        self.out16 = C2f(64 + 128, 128, 1, is_residual=False)
        self.down32 = ConvNormAct(128, 128, 3, 2)
        self.out32 = C2f(128 + 256, 256, 1, is_residual=False)
        widths = (64, 128, 256)
        self.boxes = nn.ModuleList(_branch(width, 64, 4 * _BINS) for width in widths)
        self.classes = nn.ModuleList(_branch(width, CLASS_COUNT, CLASS_COUNT) for width in widths)
        centers, strides = _anchors(input_wh)
        self.register_buffer("centers", centers)
        self.register_buffer("strides", strides)
        self.register_buffer("bins", torch.arange(_BINS, dtype=torch.float32).reshape(1, 1, -1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """All anchors of a batch, decoded."""
        sides, logits = self.raw(images)
        distances = (sides.softmax(dim=2) * self.bins).sum(dim=2)
        left_top, right_bottom = distances.split(2, dim=1)
        center = self.centers + (right_bottom - left_top) / 2
        boxes = torch.cat((center, left_top + right_bottom), dim=1) * self.strides
        return torch.cat((boxes, logits.sigmoid()), dim=1)

    def raw(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Bins of the box sides [B, 4, bins, anchors] and class logits [B, classes, anchors]."""
        maps = self._features(images)
        sides = [head(x).reshape(-1, 4, _BINS, n) for head, x, n in self._levels(self.boxes, maps)]
        logits = [
            head(x).reshape(-1, CLASS_COUNT, n) for head, x, n in self._levels(self.classes, maps)
        ]
        return torch.cat(sides, dim=3), torch.cat(logits, dim=2)

    def _features(self, images: Tensor) -> List[Tensor]:
        """The maps of strides 8, 16 and 32."""
        stride8 = self.to_stride8(images)
        stride16 = self.to_stride16(stride8)
        stride32 = self.to_stride32(stride16)
        up16 = self.up16(torch.cat((self.upsample(stride32), stride16), dim=1))
        out8 = self.up8(torch.cat((self.upsample(up16), stride8), dim=1))
        out16 = self.out16(torch.cat((self.down16(out8), up16), dim=1))
        out32 = self.out32(torch.cat((self.down32(out16), stride32), dim=1))
        return [out8, out16, out32]

    def _levels(
        self, heads: nn.ModuleList, maps: Sequence[Tensor]
    ) -> List[Tuple[nn.Module, Tensor, int]]:
        width, height = self.input_wh
        cells = [(width // stride) * (height // stride) for stride in STRIDES_PX]
        return list(zip(heads, maps, cells))


def make(input_wh: Tuple[int, int], seed: int = 0) -> Detector:
    """A fused network for inference; its weights follow from the seed.

    Of `pictures` every layer makes values around 0 and 1, and about 100 anchors of each pass a
    threshold of 0.25, so that neither half precision nor the suppression has an easier time than
    with trained weights. Sides are multiples of 32.
    """
    torch.manual_seed(seed)
    network = Detector(input_wh)
    images = as_input(pictures(_PICTURES, input_wh))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean of what it sees
    with torch.no_grad():
        network.train()(images)
        network.eval()
        for module in network.modules():
            if isinstance(module, ConvNormAct):
                module.fuse()
        _make_busy(network, images)
    network.requires_grad_(False)
    return network


def as_input(frames: Image) -> Tensor:
    """Float [B, 3, H, W] RGB in 0..1 from uint8 [B, H, W, 3] BGR."""
    planes = np.ascontiguousarray(frames[..., ::-1].transpose(0, 3, 1, 2))
    return torch.from_numpy(planes).float() / 255


def export(network: Detector, path: Path, *, is_half: bool) -> None:
    """Writes an ONNX file with a dynamic batch, its weights and arithmetic in half if asked."""
    width, height = network.input_wh
    dtype = torch.float16 if is_half else torch.float32
    with warnings.catch_warnings():
        # Of its own age: the newer exporter wants further packages.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            copy.deepcopy(network).to(dtype),
            (torch.zeros(2, 3, height, width, dtype=dtype),),
            str(path),
            opset_version=_OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
            dynamo=False,
        )
    model = onnx.load(str(path))
    shape = model.graph.output[0].type.tensor_type.shape
    for dimension, size in zip(shape.dim[1:], (4 + CLASS_COUNT, network.centers.shape[2])):
        dimension.dim_value = size
    onnx.save(model, str(path))


def _anchors(input_wh: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
    """Centres [1, 2, anchors] in cells of their level, and strides [1, 1, anchors] in pixels."""
    centers: List[Tensor] = []
    strides: List[Tensor] = []
    for stride in STRIDES_PX:
        columns, rows = (torch.arange(side // stride) + 0.5 for side in input_wh)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centers.append(torch.stack((x, y)).reshape(1, 2, -1))
        strides.append(torch.full((1, 1, x.numel()), float(stride)))
    return torch.cat(centers, dim=2), torch.cat(strides, dim=2)


def _make_busy(network: Detector, images: Tensor) -> None:
    """Moves the scores of all classes so that so many anchors of a picture pass the threshold."""
    best = network.raw(images)[1].amax(dim=1).flatten()
    passing = best.topk(_BUSY_ANCHORS * len(images)).values[-1]
    # Rounded, so that a last bit that differs between machines makes no other network.
    shift = round(float(torch.logit(torch.tensor(_THRESHOLD)) - passing), 1)
    for branch in network.classes:
        branch[-1].bias += shift
