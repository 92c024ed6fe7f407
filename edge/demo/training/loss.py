"""Detection loss: BCE on soft class targets, complete IoU, distribution focal loss.

Papers: Zheng et al., "Distance-IoU Loss", AAAI 2020; Li et al., "Generalized Focal Loss",
NeurIPS 2020.
"""

from __future__ import annotations

import math
from typing import Tuple

import torch
from torch import Tensor
from torch.nn import functional

from edge.demo.training.assigner import Assignment, assign
from edge.demo.training.network import BINS, Detector

_CLASS_GAIN, _BOX_GAIN, _DFL_GAIN = 0.5, 7.5, 1.5


def complete_iou(boxes_xyxy: Tensor, targets_xyxy: Tensor) -> Tensor:
    """Return the CIoU [K] of paired boxes [K, 4]: IoU less centre distance and aspect mismatch."""
    low = torch.maximum(boxes_xyxy[:, :2], targets_xyxy[:, :2])
    high = torch.minimum(boxes_xyxy[:, 2:], targets_xyxy[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    size, target_size = (
        boxes_xyxy[:, 2:] - boxes_xyxy[:, :2],
        targets_xyxy[:, 2:] - targets_xyxy[:, :2],
    )
    iou = shared / (size.prod(dim=-1) + target_size.prod(dim=-1) - shared + 1e-7)
    hull_low = torch.minimum(boxes_xyxy[:, :2], targets_xyxy[:, :2])
    hull_high = torch.maximum(boxes_xyxy[:, 2:], targets_xyxy[:, 2:])
    diagonal = (hull_high - hull_low).square().sum(dim=-1) + 1e-7
    centres = (
        boxes_xyxy[:, :2] + boxes_xyxy[:, 2:] - targets_xyxy[:, :2] - targets_xyxy[:, 2:]
    ) / 2
    angle = torch.atan(size[:, 0] / (size[:, 1] + 1e-7))
    target_angle = torch.atan(target_size[:, 0] / (target_size[:, 1] + 1e-7))
    aspect = (4.0 / math.pi**2) * (target_angle - angle).square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + 1.0 + 1e-7)
    return iou - centres.square().sum(dim=-1) / diagonal - weight * aspect


def distribution_focal(box_bins: Tensor, reach: Tensor) -> Tensor:
    """Return the DFL [K] of bin logits [K, 4, BINS] for wanted reaches [K, 4] in strides."""
    reach = reach.clamp(0.0, BINS - 1 - 0.01)
    lower = reach.floor()
    upper_share = reach - lower
    log_p = box_bins.log_softmax(dim=-1)
    at_lower = log_p.gather(-1, lower.long()[..., None]).squeeze(-1)
    at_upper = log_p.gather(-1, lower.long()[..., None] + 1).squeeze(-1)
    return -(at_lower * (1.0 - upper_share) + at_upper * upper_share).mean(dim=-1)


def detection_loss(
    network: Detector, box_bins: Tensor, class_logits: Tensor, targets: Tensor, min_visible: float
) -> Tuple[Tensor, Tensor]:
    """Return (loss, its parts [3]: class, box, DFL) of one batch.

    ``box_bins`` [B, N, 4, BINS] and ``class_logits`` [B, N, C] come from ``network.logits``;
    ``targets`` [B, M, 6] as in :func:`edge.demo.training.assigner.assign`.
    """
    box_bins, class_logits = box_bins.float(), class_logits.float()
    boxes = network.decode(box_bins)
    assignment = assign(
        class_logits.detach().sigmoid(), boxes.detach(), network.anchors_px, targets, min_visible
    )
    normaliser = assignment.scores.sum().clamp(min=1.0)
    class_errors = functional.binary_cross_entropy_with_logits(
        class_logits, assignment.scores, reduction="none"
    )
    class_loss = (class_errors * ~assignment.is_ignored[..., None]).sum() / normaliser
    box_loss, dfl_loss = _box_losses(network, box_bins, boxes, targets, assignment)
    parts = torch.stack(
        (
            class_loss * _CLASS_GAIN,
            box_loss / normaliser * _BOX_GAIN,
            dfl_loss / normaliser * _DFL_GAIN,
        )
    )
    return parts.sum(), parts.detach()


def _box_losses(
    network: Detector, box_bins: Tensor, boxes: Tensor, targets: Tensor, assignment: Assignment
) -> Tuple[Tensor, Tensor]:
    """Return the summed (CIoU loss, DFL) of the positive anchors, weighted by their quality."""
    image, anchor = assignment.is_positive.nonzero(as_tuple=True)
    wanted = targets[image, assignment.target_index[image, anchor], 1:5]
    weight = assignment.scores[image, anchor].sum(dim=-1)
    iou_loss = ((1.0 - complete_iou(boxes[image, anchor], wanted)) * weight).sum()
    centres, strides = network.anchors_px[anchor], network.strides_px[anchor]
    reach = torch.cat((centres - wanted[:, :2], wanted[:, 2:] - centres), dim=-1) / strides
    return iou_loss, (distribution_focal(box_bins[image, anchor], reach) * weight).sum()
