"""Random views of a training batch, made on the device that holds the batch."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor
from torch.nn import functional

from edge.demo.training.dataset import MODEL_SIZE_PX, PAD_VALUE

_PAD = PAD_VALUE / 255.0


def augment(images_u8: Tensor, targets: Tensor, random: torch.Generator) -> Tuple[Tensor, Tensor]:
    """Return (images float32 [B, 3, S, S] in 0..1, targets [B, M, 6]) after random changes.

    ``images_u8`` is [B, S, S, 3] RGB. Flips and quarter turns keep boxes tight; half of the images
    are also scaled and shifted, which lowers the visible fraction of parts that leave the image.
    """
    images = images_u8.permute(0, 3, 1, 2).float() / 255.0
    transform = _random_transform(len(images), images.device, random)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images - _PAD, grid, mode="bilinear", align_corners=False) + _PAD
    return _recolour(moved, random), _move_targets(targets, transform)


def _random_transform(count: int, device: torch.device, random: torch.Generator) -> Tensor:
    """Return [B, 2, 3]: output to input coordinates in -1..1, as ``affine_grid`` wants them."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, device=device)

    signs = torch.where(draw(count, 2) < 0.5, -1.0, 1.0)
    is_turned = (draw(count) < 0.5).float()
    zoom = torch.where(draw(count) < 0.5, 1.0, 0.8 + 0.5 * draw(count))
    shift = (draw(count, 2) - 0.5) * 0.3 * (zoom != 1.0).float()[:, None]
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0] = signs[:, 0] * (1.0 - is_turned) * zoom
    matrix[:, 0, 1] = signs[:, 0] * is_turned * zoom
    matrix[:, 1, 0] = signs[:, 1] * is_turned * zoom
    matrix[:, 1, 1] = signs[:, 1] * (1.0 - is_turned) * zoom
    matrix[:, :, 2] = shift
    return matrix


def _move_targets(targets: Tensor, transform: Tensor) -> Tensor:
    """Return the targets [B, M, 6] in the transformed images, clipped to them."""
    inverse = torch.linalg.inv(transform[:, :, :2])
    unit = targets[..., 1:5].reshape(len(targets), -1, 2) * (2.0 / MODEL_SIZE_PX) - 1.0
    moved = (unit - transform[:, None, :, 2]) @ inverse.transpose(1, 2)
    corners = ((moved + 1.0) * (MODEL_SIZE_PX / 2)).reshape(*targets.shape[:2], 2, 2)
    low, high = corners.amin(dim=2), corners.amax(dim=2)
    whole = (high - low).prod(dim=-1)
    low, high = low.clamp(0, MODEL_SIZE_PX), high.clamp(0, MODEL_SIZE_PX)
    kept = (high - low).prod(dim=-1) / whole.clamp(min=1e-6)
    visible = targets[..., 5] * kept
    class_ids = torch.where(kept > 0.02, targets[..., 0], torch.full_like(kept, -1.0))
    return torch.cat((class_ids[..., None], low, high, visible[..., None]), dim=-1)


def _recolour(images: Tensor, random: torch.Generator) -> Tensor:
    """Return the images with other brightness, contrast, white balance and noise."""
    count, device = len(images), images.device

    def spread(half_width: float, channels: int = 1) -> Tensor:
        draws = torch.rand(count, channels, 1, 1, generator=random, device=device)
        return 1.0 + half_width * (2.0 * draws - 1.0)

    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed = (images - mean) * spread(0.25) + mean * spread(0.25)
    grey = changed.mean(dim=1, keepdim=True)
    changed = grey + (changed - grey) * spread(0.5)
    changed = changed * spread(0.08, 3)
    noise = torch.randn(images.shape, generator=random, device=device)
    return (changed + noise * (spread(1.0) - 0.7).clamp(min=0) * 0.012).clamp(0.0, 1.0)
