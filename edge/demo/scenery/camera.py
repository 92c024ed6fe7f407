"""What lamp, lens and sensor do to the image: uneven light, blur, noise and compression."""

from __future__ import annotations

from typing import Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.demo.scenery.arrays import Image, Plane

_NOISE_SLACK_PX = 61


def light_field(size_wh: Tuple[int, int], rng: np.random.Generator) -> Image:
    """Return uint8 [H, W, 3], the lamp's brightness per pixel; 128 leaves the image as it is."""
    width, height = size_wh
    column = np.linspace(-1.0, 1.0, 96, dtype=np.float32)[None, :]
    row = np.linspace(-1.0, 1.0, 96, dtype=np.float32)[:, None]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.3)
    gain = 1.0 + slope * (column * np.cos(angle) + row * np.sin(angle))
    gain = gain * (1.0 - rng.uniform(0.0, 0.22) * (column**2 + row**2))
    spot_x, spot_y = rng.uniform(-0.8, 0.8, 2)
    spot = np.exp(-((column - spot_x) ** 2 + (row - spot_y) ** 2) / rng.uniform(0.1, 0.6))
    gain = (gain + rng.uniform(0.0, 0.3) * spot) * rng.uniform(0.78, 1.18)
    warmth = float(rng.normal(0.0, 0.05))
    balance = np.array([1.0 - warmth, 1.0, 1.0 + warmth], dtype=np.float32)
    coarse = np.clip(gain[..., None] * balance * 128.0, 0, 255).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height)).astype(np.uint8))


class Camera:
    """Applies one camera's flaws to clean images of one size; deterministic per frame index."""

    def __init__(
        self, size_wh: Tuple[int, int], seed: int, motion_px: float, is_vertical: bool
    ) -> None:
        rng = np.random.default_rng((seed, 11))
        self._seed = seed
        self._size_wh = size_wh
        self._light = light_field(size_wh, rng)
        long_side = max(size_wh)
        self._focus_sigma_px = float(rng.choice([0.0, 0.0, 0.6, 1.0])) * max(0.6, long_side / 900)
        exposure_share = float(rng.uniform(0.0, 0.5))
        self._motion_px = int(min(motion_px * exposure_share, 0.012 * long_side))
        self._is_vertical = is_vertical
        self._noise = self._draw_noise(float(rng.choice([1.0, 2.0, 3.5, 5.0])), rng)
        self._jpeg_quality = int(rng.choice([0, 0, 45, 65, 80]))

    def _draw_noise(self, sigma: float, rng: np.random.Generator) -> NDArray[np.int16]:
        width, height = self._size_wh
        shape = (height + _NOISE_SLACK_PX, width + _NOISE_SLACK_PX, 3)
        # Drawn as bytes: a normal draw for every pixel would cost more than the rest of the scene.
        draws = rng.integers(0, 256, shape, dtype=np.uint8).astype(np.int16)
        draws += rng.integers(0, 256, shape, dtype=np.uint8)
        table = np.round((np.arange(511) - 255.0) / 104.0 * sigma).astype(np.int16)
        return np.asarray(table[draws])

    def expose(self, clean_bgr: Image, index: int) -> Image:
        """Return the image as this camera would deliver frame ``index`` of it; uint8 [H, W, 3]."""
        image: Plane = clean_bgr
        if self._motion_px >= 2:
            window = (1, self._motion_px) if self._is_vertical else (self._motion_px, 1)
            image = cv2.blur(image, window)
        if self._focus_sigma_px > 0.0:
            image = cv2.GaussianBlur(image, (0, 0), self._focus_sigma_px)
        image = cv2.multiply(image, self._light, scale=1.0 / 128.0)
        # The steps are coprime to the slack, so neighbouring frames never share their noise.
        dx, dy = (index * 23) % _NOISE_SLACK_PX, (index * 37 + index // 61) % _NOISE_SLACK_PX
        width, height = self._size_wh
        image = cv2.add(image, self._noise[dy : dy + height, dx : dx + width], dtype=cv2.CV_8U)
        if self._jpeg_quality:
            _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._jpeg_quality])
            image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        return np.asarray(image)
