"""A small anchor-free detector: CSP backbone, PAN neck, decoupled head with distributed boxes.

The layout follows YOLOv8 (C2f blocks, SPPF, distribution focal loss); the neck fuses each level
with a single 3 x 3 convolution, which keeps 320 x 320 images within a few CPU milliseconds.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

MODEL_SIZE_PX = 320
STRIDES_PX: Tuple[int, int, int] = (8, 16, 32)
#: Bins per box side; a side reaches at most (BINS - 1) strides from its anchor.
BINS = 16


class ConvBnAct(nn.Module):
    """Convolution, batch norm, SiLU; :meth:`fuse` folds the norm into the convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated map [B, outputs, H / stride, W / stride]."""
        return self.act(self.norm(self.conv(x)))

    def fuse(self) -> None:
        """Replace convolution and norm by one convolution with a bias; for inference only."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        old = self.conv
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        fused = nn.Conv2d(
            old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=True
        )
        fused.weight.data = old.weight.data * gain.data[:, None, None, None]
        assert fused.bias is not None
        fused.bias.data = norm.bias.data - norm.running_mean * gain.data
        self.conv, self.norm = fused, nn.Identity()


class C2f(nn.Module):
    """Split, run one residual bottleneck on half of the channels, join everything."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = half = channels // 2
        self.split = ConvBnAct(channels, channels)
        self.first = ConvBnAct(half, half, 3)
        self.second = ConvBnAct(half, half, 3)
        self.join = ConvBnAct(half * 3, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        # Split and views of fixed sizes export as single nodes; chunk and flatten would not.
        left, right = self.split(x).split(self.half, dim=1)
        refined = right + self.second(self.first(right))
        return self.join(torch.cat((left, right, refined), dim=1))


class SpatialPyramid(nn.Module):
    """SPPF: three chained 5 x 5 max pools see the whole image at stride 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = ConvBnAct(channels, half)
        self.join = ConvBnAct(half * 4, channels)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        return self.join(torch.cat(levels, dim=1))


class Head(nn.Module):
    """Box bins and class logits of one level; both branches share the first convolution's call."""

    def __init__(self, inputs: int, hidden: int, class_count: int, stride_px: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell_count = (MODEL_SIZE_PX // stride_px) ** 2
        self.stem = ConvBnAct(inputs, 2 * hidden, 3)
        self.boxes = nn.Conv2d(hidden, 4 * BINS, 1)
        self.classes = nn.Conv2d(hidden, class_count, 1)
        assert self.boxes.bias is not None
        assert self.classes.bias is not None
        self.boxes.bias.data.fill_(1.0)
        # Prior: about 5 parts per image among all anchors of this level.
        prior = 5.0 / class_count / self.cell_count
        self.classes.bias.data.fill_(float(torch.logit(torch.tensor(prior))))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Return (box bins [B, 4 * BINS, cells], class logits [B, C, cells])."""
        box_features, class_features = self.stem(x).split(self.hidden, dim=1)
        boxes, classes = self.boxes(box_features), self.classes(class_features)
        return (
            boxes.reshape(-1, 4 * BINS, self.cell_count),
            classes.reshape(-1, self.classes.out_channels, self.cell_count),
        )


def anchor_points(size_px: int = MODEL_SIZE_PX) -> Tuple[Tensor, Tensor]:
    """Return (centres [N, 2] in model pixels, stride [N, 1] in pixels) of every level's cells."""
    centres: List[Tensor] = []
    strides: List[Tensor] = []
    for stride in STRIDES_PX:
        axis = (torch.arange(size_px // stride, dtype=torch.float32) + 0.5) * stride
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        centres.append(torch.stack((columns, rows), dim=-1).reshape(-1, 2))
        strides.append(torch.full((axis.numel() ** 2, 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


class Detector(nn.Module):
    """The demo network; ``forward`` gives the raw YOLOv8 output, ``logits`` what the loss needs."""

    anchors_px: Tensor
    strides_px: Tensor
    bins: Tensor

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self.class_count = class_count
        self.stem = ConvBnAct(3, 16, 3, 2)
        self.to_stride4 = ConvBnAct(16, 32, 3, 2)
        self.to_stride8 = nn.Sequential(ConvBnAct(32, 64, 3, 2), C2f(64))
        self.to_stride16 = nn.Sequential(ConvBnAct(64, 128, 3, 2), C2f(128))
        self.to_stride32 = nn.Sequential(ConvBnAct(128, 192, 3, 2), SpatialPyramid(192))
        self.up16 = ConvBnAct(192 + 128, 80, 3)
        self.up8 = ConvBnAct(80 + 64, 48, 3)
        self.down16 = ConvBnAct(48, 48, 3, 2)
        self.out16 = ConvBnAct(48 + 80, 80, 3)
        self.down32 = ConvBnAct(80, 80, 3, 2)
        self.out32 = ConvBnAct(80 + 192, 96, 3)
        levels = zip((48, 80, 96), (48, 56, 64), STRIDES_PX)
        self.heads = nn.ModuleList(Head(c, h, class_count, s) for c, h, s in levels)
        centres, strides = anchor_points()
        self.register_buffer("anchors_px", centres, persistent=False)
        self.register_buffer("strides_px", strides, persistent=False)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32), persistent=False)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Return the fused maps at strides 8, 16 and 32 of images [B, 3, 320, 320]."""
        at8 = self.to_stride8(self.to_stride4(self.stem(images)))
        at16 = self.to_stride16(at8)
        at32 = self.to_stride32(at16)
        up16 = self.up16(torch.cat((functional.interpolate(at32, scale_factor=2.0), at16), dim=1))
        out8 = self.up8(torch.cat((functional.interpolate(up16, scale_factor=2.0), at8), dim=1))
        out16 = self.out16(torch.cat((self.down16(out8), up16), dim=1))
        out32 = self.out32(torch.cat((self.down32(out16), at32), dim=1))
        return out8, out16, out32

    def logits(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Return (box bins [B, N, 4, BINS], class logits [B, N, C]); N runs over all levels."""
        levels = [head(x) for head, x in zip(self.heads, self.features(images))]
        boxes = torch.cat([level[0] for level in levels], dim=2)
        classes = torch.cat([level[1] for level in levels], dim=2)
        boxes = boxes.reshape(-1, 4, BINS, len(self.anchors_px)).permute(0, 3, 1, 2)
        return boxes, classes.transpose(1, 2)

    def decode(self, box_bins: Tensor) -> Tensor:
        """Return boxes_xyxy [B, N, 4] in model pixels from their bin logits."""
        # A sum of products, not a matrix product: CPUs are slow at products with one column.
        reach = (box_bins.softmax(dim=-1) * self.bins).sum(dim=-1) * self.strides_px
        return torch.cat(
            (self.anchors_px - reach[..., :2], self.anchors_px + reach[..., 2:]), dim=-1
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, 4 + C, N]: cx, cy, w, h in model pixels, then one sigmoid score per class."""
        box_bins, class_logits = self.logits(images)
        boxes = self.decode(box_bins)
        low, high = boxes[..., :2], boxes[..., 2:]
        rows = torch.cat(((low + high) / 2, high - low, class_logits.sigmoid()), dim=-1)
        return rows.transpose(1, 2)

    def fuse(self) -> Detector:
        """Fold every batch norm into its convolution and return the network, in eval mode."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvBnAct):
                module.fuse()
        return self
