"""Task-aligned label assignment (Feng et al., "TOOD", ICCV 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TOP_ANCHORS = 10
_SCORE_POWER = 0.5
_IOU_POWER = 6.0


@dataclass(frozen=True)
class Assignment:
    """What each anchor shall predict.

    ``is_positive`` bool [B, N]; ``target_index`` int64 [B, N] into the image's targets;
    ``scores`` [B, N, C], the soft class targets; ``is_ignored`` bool [B, N], anchors that lie
    on a part too hidden to be judged.
    """

    is_positive: Tensor
    target_index: Tensor
    scores: Tensor
    is_ignored: Tensor


def pairwise_iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """Return the IoU [B, M, N] of boxes [B, M, 4] with boxes [B, N, 4]."""
    a, b = first_xyxy[:, :, None], second_xyxy[:, None]
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    shared = overlap.prod(dim=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(dim=-1) + (b[..., 2:] - b[..., :2]).prod(dim=-1)
    return shared / (areas - shared + 1e-7)


def _inside(anchors_px: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Return bool [B, M, N]: which anchor centres [N, 2] lie in which boxes [B, M, 4]."""
    low = anchors_px[None, None] - boxes_xyxy[:, :, None, :2]
    high = boxes_xyxy[:, :, None, 2:] - anchors_px[None, None]
    return torch.cat((low, high), dim=-1).amin(dim=-1) > 1e-6


def assign(
    scores: Tensor, boxes_xyxy: Tensor, anchors_px: Tensor, targets: Tensor, min_visible: float
) -> Assignment:
    """Match anchors with targets by score**0.5 * IoU**6.

    ``scores`` [B, N, C] and ``boxes_xyxy`` [B, N, 4] are predictions; ``targets`` [B, M, 6] rows
    are class id (-1 pads), box xyxy in model pixels, visible fraction.
    """
    class_ids, target_boxes = targets[..., 0].long(), targets[..., 1:5]
    exists = class_ids >= 0
    is_judged = exists & (targets[..., 5] >= min_visible)
    inside = _inside(anchors_px, target_boxes)
    iou = pairwise_iou(target_boxes, boxes_xyxy)
    wanted = class_ids.clamp(min=0)[..., None].expand(-1, -1, scores.shape[1])
    score_of_wanted = scores.transpose(1, 2).gather(1, wanted)
    candidate = inside & is_judged[..., None]
    alignment = score_of_wanted**_SCORE_POWER * iou**_IOU_POWER * candidate
    best, best_index = alignment.topk(_TOP_ANCHORS, dim=-1)
    chosen = torch.zeros_like(alignment).scatter_(-1, best_index, (best > 1e-9).to(alignment.dtype))
    # An anchor wanted by several targets goes to the one that it overlaps most.
    target_index = torch.where(chosen > 0, iou + 1e-6, torch.zeros_like(iou)).argmax(dim=1)
    is_positive = chosen.amax(dim=1) > 0
    owned = torch.zeros_like(chosen).scatter_(1, target_index[:, None], 1.0) * is_positive[:, None]
    alignment = alignment * owned
    peak_alignment = alignment.amax(dim=-1, keepdim=True)
    peak_iou = (iou * owned).amax(dim=-1, keepdim=True)
    quality = (alignment * peak_iou / (peak_alignment + 1e-9)).amax(dim=1)
    one_hot = torch.zeros_like(scores)
    one_hot.scatter_(2, class_ids.clamp(min=0).gather(1, target_index)[..., None], 1.0)
    hidden = (inside & (exists & ~is_judged)[..., None]).any(dim=1)
    return Assignment(
        is_positive=is_positive,
        target_index=target_index,
        scores=one_hot * (quality * is_positive)[..., None],
        is_ignored=hidden & ~is_positive,
    )
