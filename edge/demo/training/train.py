"""Trains the demo detector.

``python -m edge.demo.training.train --data /tmp/train --out parts.pt``

The learning rate follows the clock, so a run always ends annealed within its time budget.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from pathlib import Path
from typing import Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from edge.demo.scene import CLASS_NAMES
from edge.demo.training.augment import augment
from edge.demo.training.dataset import MIN_VISIBLE_FRACTION, load_dataset
from edge.demo.training.loss import detection_loss
from edge.demo.training.network import Detector

log = logging.getLogger(__name__)

_WARMUP_STEPS = 300
_WEIGHT_DECAY = 0.03
_EMA_DECAY = 0.9995
_MAX_GRADIENT_NORM = 10.0


class WeightAverage:
    """An exponential moving average of a network; it is what gets exported."""

    def __init__(self, network: Detector) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._steps = 0

    def update(self, network: Detector) -> None:
        """Move the average a step towards the network; the first steps count more."""
        self._steps += 1
        decay = _EMA_DECAY * (1.0 - math.exp(-self._steps / 500.0))
        averages, currents = list(self.network.parameters()), list(network.parameters())
        averages += [b for b in self.network.buffers() if b.is_floating_point()]
        currents += [b for b in network.buffers() if b.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_(averages, [c.detach() for c in currents], 1.0 - decay)


def make_optimizer(network: Detector, learning_rate: float) -> torch.optim.Optimizer:
    """Return AdamW that decays convolution weights, but neither norms nor biases."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": _WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))


def learning_rate_share(step: int, progress: float) -> float:
    """Return the share of the peak rate: linear warm-up by step, then cosine over the budget."""
    cosine = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return cosine * min(1.0, (step + 1) / _WARMUP_STEPS)


def load_all(folders: Sequence[Path], device: torch.device) -> Tuple[Tensor, Tensor]:
    """Return (images uint8 [N, S, S, 3], targets [N, M, 6]) of all sets, on the device."""
    sets = [load_dataset(folder) for folder in folders]
    images = torch.cat([torch.from_numpy(s[0]).to(device) for s in sets])
    targets = torch.from_numpy(np.concatenate([s[1] for s in sets])).to(device)
    return images, targets


class Trainer:
    """One training run over images that stay on the device."""

    def __init__(self, network: Detector, images: Tensor, targets: Tensor, seed: int) -> None:
        self.network = network
        self.average = WeightAverage(network)
        self._images, self._targets = images, targets
        self._random = torch.Generator(device=images.device).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=images.device)

    def _next_batch(self, batch: int) -> Tuple[Tensor, Tensor]:
        if len(self._order) < batch:
            count, device = len(self._images), self._images.device
            self._order = torch.randperm(count, generator=self._random, device=device)
        rows, self._order = self._order[:batch], self._order[batch:]
        return augment(self._images[rows], self._targets[rows], self._random)

    def _step(self, optimizer: torch.optim.Optimizer, batch: int) -> Tensor:
        images, targets = self._next_batch(batch)
        images = images.contiguous(memory_format=torch.channels_last)
        device_type = images.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            box_bins, class_logits = self.network.logits(images)
        loss, parts = detection_loss(
            self.network, box_bins, class_logits, targets, MIN_VISIBLE_FRACTION
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        optimizer.step()
        self.average.update(self.network)
        return parts

    def run(self, minutes: float, batch: int, learning_rate: float, max_steps: int) -> int:
        """Train until the time or the steps are used up; return the number of steps."""
        optimizer = make_optimizer(self.network, learning_rate)
        self.network.train()
        started, step, progress = time.monotonic(), 0, 0.0
        batch = min(batch, len(self._images))
        while progress < 1.0:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * learning_rate_share(step, progress)
            parts = self._step(optimizer, batch)
            if step % 200 == 0:
                log.info(
                    "step %d, %.0f %%: class, box, dfl %s", step, progress * 100, parts.tolist()
                )
            step += 1
            # The loss reads the positives' indices back, so the device never lags the clock by more
            # than one step.
            by_time = (time.monotonic() - started) / (minutes * 60.0)
            progress = max(by_time, step / max_steps if max_steps else 0.0)
        return step


def save_checkpoint(path: Path, network: Detector) -> None:
    """Write the network's weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"class_names": list(CLASS_NAMES), "weights": network.state_dict()}, path)


def load_checkpoint(path: Path) -> Detector:
    """Return the network of a checkpoint, on the CPU."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    network = Detector(len(checkpoint["class_names"]))
    network.load_state_dict(checkpoint["weights"])
    return network


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of rendered sets"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--minutes", type=float, default=7.0, help="time budget")
    parser.add_argument("--max-steps", type=int, default=0, help="0: only the time ends the run")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Train a network and write its averaged weights."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = _parse(arguments)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, targets = load_all(options.data, device)
    network = load_checkpoint(options.init) if options.init else Detector(len(CLASS_NAMES))
    network = network.to(device).to(memory_format=torch.channels_last)
    log.info("%d images, %d parameters", len(images), sum(p.numel() for p in network.parameters()))
    trainer = Trainer(network, images, targets, options.seed)
    steps = trainer.run(options.minutes, options.batch, options.learning_rate, options.max_steps)
    save_checkpoint(options.out, trainer.average.network.cpu())
    log.info("%d steps, %.1f epochs", steps, steps * options.batch / len(images))


if __name__ == "__main__":
    main()
