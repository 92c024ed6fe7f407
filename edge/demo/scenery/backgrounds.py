"""Belt and table surfaces, one painter per family, as tiles that repeat along the belt."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import cv2
import numpy as np

from edge.demo.scenery.arrays import Image, Plane

Painter = Callable[[int, int, np.random.Generator], Plane]


def _noise(height: int, width: int, cell_px: float, rng: np.random.Generator) -> Plane:
    """Return smooth noise in -1..1, float32 [H, W], periodic along the columns."""
    rows = max(2, int(height / cell_px) + 2)
    columns = max(2, round(width / cell_px))
    coarse = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    # Three cells of wrap on either side keep the seam of the loop invisible after interpolation.
    wrapped = np.pad(coarse, ((0, 0), (3, 3)), mode="wrap")
    step = width / columns
    full = cv2.resize(wrapped, (round(width + 6 * step), height), interpolation=cv2.INTER_CUBIC)
    start = round(3 * step)
    return np.asarray(full[:, start : start + width])


def _fractal(height: int, width: int, cell_px: float, rng: np.random.Generator) -> Plane:
    layers = [_noise(height, width, max(1.0, cell_px / 2**k), rng) / 2**k for k in range(4)]
    return np.asarray(sum(layers))


def _grain(height: int, width: int, rng: np.random.Generator) -> Plane:
    return rng.standard_normal((height, width), dtype=np.float32)


def _tint(gain: Plane, bgr: Tuple[float, float, float]) -> Plane:
    """Return float32 [H, W, 3] in 0..255 of a grey relief coloured by ``bgr`` (0..255)."""
    return np.asarray(gain[..., None] * np.array(bgr, dtype=np.float32))


def _cycles(width: int, period_px: float) -> float:
    """Return the nearest angular frequency (per pixel) that closes after ``width`` pixels."""
    return float(2 * np.pi * max(1, round(width / period_px)) / width)


def _rubber(height: int, width: int, rng: np.random.Generator) -> Plane:
    level = rng.uniform(34, 78)
    streaks = cv2.GaussianBlur(rng.normal(0, 1, (height, 1)).astype(np.float32), (1, 9), 0)
    gain = 1.0 + 0.07 * _fractal(height, width, height / 3, rng) + 0.06 * streaks
    gain = gain + 0.07 * _grain(height, width, rng)
    return _tint(gain, (level * 1.04, level, level * 0.98))


def _pvc(height: int, width: int, rng: np.random.Generator) -> Plane:
    hues = ((96, 120, 40), (140, 92, 38), (206, 206, 200), (70, 140, 70), (150, 140, 120))
    base = np.array(hues[int(rng.integers(len(hues)))]) * rng.uniform(0.7, 1.1)
    gain = 1.0 + 0.05 * _fractal(height, width, height / 2, rng) + 0.02 * _grain(height, width, rng)
    scuffs = np.clip(_noise(height, width, height / 40, rng) - 0.75, 0, 1) * 0.5
    return _tint(gain - scuffs, (float(base[0]), float(base[1]), float(base[2])))


def _weave(height: int, width: int, rng: np.random.Generator) -> Plane:
    period = height / rng.uniform(45, 90)
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    frequency = _cycles(width, period)
    threads = np.sin(row * frequency) * np.sin(column * frequency)
    gain = 1.0 + 0.13 * threads + 0.06 * _fractal(height, width, height / 4, rng)
    base = rng.uniform(60, 170)
    tilt = rng.uniform(0.85, 1.15, 2)
    return _tint(gain.astype(np.float32), (base * tilt[0], base, base * tilt[1]))


def _modular(height: int, width: int, rng: np.random.Generator) -> Plane:
    period = height / rng.uniform(4, 8)
    frequency = _cycles(width, period)
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    across = (row / period) % 1.0
    along = (column * frequency / (2 * np.pi) + 0.5 * (np.floor(row / period) % 2)) % 1.0
    seam = np.minimum(np.minimum(across, 1 - across), np.minimum(along, 1 - along))
    gain = 0.45 + 0.55 * np.clip(seam / 0.05, 0, 1)
    slot = np.hypot(across - 0.5, np.maximum(np.abs(along - 0.5) - 0.12, 0))
    gain = gain * (0.6 + 0.4 * np.clip((slot - 0.1) / 0.04, 0, 1))
    hues = ((150, 100, 45), (200, 200, 198), (90, 92, 95), (70, 120, 60))
    base = hues[int(rng.integers(len(hues)))]
    grime = 0.06 * _fractal(height, width, height / 3, rng)
    return _tint((gain + grime).astype(np.float32), base)


def _mesh(height: int, width: int, rng: np.random.Generator) -> Plane:
    period = height / rng.uniform(14, 28)
    frequency = _cycles(width, period)
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    wires = np.maximum(
        np.abs(np.sin((row + column) * frequency / 2)),
        np.abs(np.sin((row - column) * frequency / 2)),
    )
    gain = 0.25 + 0.75 * np.clip((wires - 0.86) / 0.14, 0, 1)
    return np.asarray(_tint(gain.astype(np.float32), (128.0, 130.0, 128.0)) + 25.0)


def _brushed(height: int, width: int, rng: np.random.Generator) -> Plane:
    reach = max(3, height // 6) | 1
    wrapped = np.pad(_grain(height, width, rng), ((0, 0), (reach, reach)), mode="wrap")
    lines = cv2.blur(wrapped, (reach, 1))[:, reach : reach + width]
    gain = 1.0 + 0.5 * lines + 0.08 * _fractal(height, width, height / 1.5, rng)
    level = rng.uniform(105, 180)
    return _tint(gain, (level * 1.02, level, level * 0.98))


def _scratched(height: int, width: int, rng: np.random.Generator) -> Plane:
    level = rng.uniform(90, 165)
    image = _tint(1.0 + 0.07 * _fractal(height, width, height / 2, rng), (level, level, level))
    overlay = np.zeros((height, width), np.float32)
    for _ in range(int(60 * width / height)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.03, 0.3) * height
        end = (int(x + np.cos(angle) * length), int(y + np.sin(angle) * length))
        cv2.line(overlay, (int(x), int(y)), end, float(rng.uniform(-1, 1)), 1, cv2.LINE_AA)
    lines: Plane = overlay[..., None] * 26.0
    return np.asarray(image + lines + 5.0 * _grain(height, width, rng)[..., None])


def _painted(height: int, width: int, rng: np.random.Generator) -> Plane:
    base = rng.uniform(60, 200) * rng.uniform(0.75, 1.2, 3)
    orange_peel = 0.025 * _noise(height, width, max(2.0, height / 120), rng)
    gain = 1.0 + orange_peel + 0.05 * _fractal(height, width, height / 1.2, rng)
    return _tint(gain, (float(base[0]), float(base[1]), float(base[2])))


def _diamond_plate(height: int, width: int, rng: np.random.Generator) -> Plane:
    period = height / rng.uniform(7, 12)
    frequency = _cycles(width, period)
    row, column = (
        np.arange(height)[:, None] / period,
        np.arange(width)[None, :] * frequency / (2 * np.pi),
    )
    relief = np.zeros((height, width), np.float32)
    for shift, sign in ((0.0, 1.0), (0.5, -1.0)):
        u, v = (column + shift) % 1.0 - 0.5, (row + shift) % 1.0 - 0.5
        along, across = (u + sign * v) * 0.7071, (u - sign * v) * 0.7071
        relief = np.maximum(relief, np.clip(1.3 - (along / 0.3) ** 2 - (across / 0.09) ** 2, 0, 1))
    soft = cv2.GaussianBlur(relief.astype(np.float32), (0, 0), max(0.7, period / 30))
    lit = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3) + cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3)
    level = rng.uniform(90, 150)
    gain = 1.0 + 0.08 * relief - np.clip(lit * period / 14, -0.35, 0.45)
    return _tint(
        (gain + 0.04 * _grain(height, width, rng)).astype(np.float32), (level, level, level * 0.98)
    )


def _wood(height: int, width: int, rng: np.random.Generator) -> Plane:
    row = np.arange(height, dtype=np.float32)[:, None] / height
    warp = 0.05 * _noise(height, width, height / 1.3, rng)
    rings = (
        np.sin((row + warp) * rng.uniform(50, 110)) * 0.5
        + _noise(height, width, height / 60, rng) * 0.3
    )
    gain = 1.0 + 0.1 * rings + 0.03 * _grain(height, width, rng)
    level = rng.uniform(0.75, 1.15)
    return _tint(gain, (82 * level, 124 * level, 164 * level))


def _cardboard(height: int, width: int, rng: np.random.Generator) -> Plane:
    flutes = np.sin(np.arange(width)[None, :] * _cycles(width, height / 40)) * 0.03
    gain = (
        1.0
        + flutes
        + 0.05 * _fractal(height, width, height / 2, rng)
        + 0.04 * _grain(height, width, rng)
    )
    return _tint(gain.astype(np.float32), (118.0, 152.0, 178.0))


def _patchwork(height: int, width: int, rng: np.random.Generator) -> Plane:
    """Paint random gratings, blotches and patches: no real surface, but many surfaces' look."""
    gain = 1.0 + rng.uniform(0.05, 0.3) * _fractal(height, width, height / rng.uniform(1, 12), rng)
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    for _ in range(int(rng.integers(0, 3))):
        along = _cycles(width, height / rng.uniform(2, 40))
        across = 2 * np.pi * rng.uniform(0, 40) / height
        depth = rng.uniform(0.02, 0.15)
        stripes = np.sign(np.sin(column * along + row * across))
        gain = gain + depth * stripes ** int(rng.integers(1, 3))
    blue, green, red = (float(v) for v in rng.uniform(30, 220, 3))
    image = _tint(gain.astype(np.float32), (blue, green, red))
    for _ in range(int(rng.integers(0, 6))):
        corners = rng.uniform(0, 1, (int(rng.integers(3, 6)), 2)) * (width, height)
        cv2.fillPoly(
            image, [corners.astype(np.int32)], tuple(float(v) for v in rng.uniform(20, 230, 3))
        )
    return np.asarray(image + rng.uniform(0, 10) * _grain(height, width, rng)[..., None])


def _chevron(height: int, width: int, rng: np.random.Generator) -> Plane:
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    frequency = _cycles(width, height / 4)
    bend = np.abs(row - height / 2) * frequency
    ridge = np.clip(np.sin(column * frequency + bend) * 4 - 3.0, 0, 1)
    gain = (
        1.0
        + 0.3 * ridge
        + 0.05 * _fractal(height, width, height / 3, rng)
        + 0.04 * _grain(height, width, rng)
    )
    return _tint(gain.astype(np.float32), (72.0, 78.0, 64.0))


def _granite(height: int, width: int, rng: np.random.Generator) -> Plane:
    fine, coarse = (
        _noise(height, width, max(1.5, height / 160), rng),
        _noise(height, width, height / 60, rng),
    )
    gain = 1.0 + 0.22 * np.clip(fine * 1.5, -1, 1) + 0.12 * coarse
    return _tint(gain, (112.0, 112.0, 118.0))


def _cutting_mat(height: int, width: int, rng: np.random.Generator) -> Plane:
    frequency = _cycles(width, height / 10)
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    lines = np.maximum(np.cos(row * frequency), np.cos(column * frequency))
    gain = 1.0 + 0.5 * np.clip((lines - 0.988) / 0.01, 0, 1) + 0.03 * _grain(height, width, rng)
    return _tint(gain.astype(np.float32), (92.0, 104.0, 40.0))


def _perforated(height: int, width: int, rng: np.random.Generator) -> Plane:
    period = height / rng.uniform(12, 18)
    frequency = _cycles(width, period)
    u = np.sin(np.arange(width)[None, :] * frequency / 2) ** 2
    v = np.sin(np.arange(height)[:, None] * np.pi / period) ** 2
    hole = np.clip((u + v - 1.72) / 0.1, 0, 1)
    gain = 1.0 - 0.6 * hole + 0.05 * _fractal(height, width, height / 2, rng)
    return _tint(
        (gain + 0.03 * _grain(height, width, rng)).astype(np.float32), (150.0, 152.0, 150.0)
    )


_PAINTERS: Dict[str, Painter] = {
    "rubber": _rubber,
    "pvc": _pvc,
    "weave": _weave,
    "modular": _modular,
    "mesh": _mesh,
    "brushed": _brushed,
    "scratched": _scratched,
    "painted": _painted,
    "diamond_plate": _diamond_plate,
    "wood": _wood,
    "cardboard": _cardboard,
    "patchwork": _patchwork,
    "chevron": _chevron,
    "granite": _granite,
    "cutting_mat": _cutting_mat,
    "perforated": _perforated,
}

#: Families that no training image shows; the evaluation and the bundled clips use only these.
HELD_OUT_FAMILIES: Tuple[str, ...] = ("chevron", "granite", "cutting_mat", "perforated")
TRAINING_FAMILIES: Tuple[str, ...] = tuple(n for n in _PAINTERS if n not in HELD_OUT_FAMILIES)
FAMILIES: Tuple[str, ...] = tuple(_PAINTERS)


_MAX_PAINTED_ROWS = 480


def paint_tile(family: str, height: int, width: int, rng: np.random.Generator) -> Image:
    """Return a uint8 BGR tile [height, width, 3] that repeats without a seam along its columns."""
    if family not in _PAINTERS:
        raise ValueError(f"background: expected one of {', '.join(FAMILIES)}, got {family!r}")
    # Surfaces are soft: painting a Full-HD belt at a third of its size looks the same and is cheap.
    scale = min(1.0, _MAX_PAINTED_ROWS / height)
    painted = _PAINTERS[family](max(8, round(height * scale)), max(8, round(width * scale)), rng)
    tile = np.clip(painted, 0, 255).astype(np.uint8)
    if scale == 1.0 and tile.shape[:2] == (height, width):
        return tile
    return np.asarray(cv2.resize(tile, (width, height), interpolation=cv2.INTER_LINEAR))
