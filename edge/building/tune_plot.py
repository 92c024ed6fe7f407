"""Throughput over batch size as a small SVG file."""

from __future__ import annotations

import math
from html import escape
from typing import Iterator, Mapping, Optional, Sequence

from edge.building.tune import Point

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 616, 48, 344
# Keeps the numbers at the first and last point clear of the axis and the edge.
_INSET = 28
_GRID_LINES = 5
_INK, _GRID, _LINE, _MARK = "#222", "#ddd", "#1f6fb2", "#d1495b"
_OTHER_LINES = ("#8a8a8a", "#d98b2b", "#5b9b5b")

Curves = Mapping[str, Sequence[Point]]
"""Other throughputs of the same batches, by what they are called."""


def svg(
    title: str, points: Sequence[Point], chosen: Optional[int], others: Optional[Curves] = None
) -> str:
    """Draws the points, in the order of their batch, and marks the chosen one."""
    others = others or {}
    frame = _Frame([*points, *(point for curve in others.values() for point in curve)])
    body = [
        *_grid(frame),
        _text(_WIDTH / 2, 24, title, size=15),
        _text(_WIDTH / 2, _HEIGHT - 14, "frames of one batch"),
        _vertical_text(18, (_TOP + _BOTTOM) / 2, "frames per second"),
        *_others(frame, others),
        *_curve(frame, points, chosen),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


class _Frame:
    """From batch sizes (by doublings) and throughputs to pixels."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._doublings = max([1.0, *(math.log2(point.batch) for point in points)])
        self.step_fps = round_up(max([1.0, *(point.fps for point in points)]) / _GRID_LINES)

    def x(self, batch: int) -> float:
        width = _RIGHT - _LEFT - 2 * _INSET
        return _LEFT + _INSET + width * math.log2(batch) / self._doublings

    def y(self, fps: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * fps / (self.step_fps * _GRID_LINES)


def round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten: steps that people can read."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value)


def _grid(frame: _Frame) -> Iterator[str]:
    for number in range(_GRID_LINES + 1):
        fps = number * frame.step_fps
        y = frame.y(fps)
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}" stroke="{_GRID}"/>'
        yield _text(_LEFT - 8, y + 4, f"{fps:g}", anchor="end")


def _curve(frame: _Frame, points: Sequence[Point], chosen: Optional[int]) -> Iterator[str]:
    yield _polyline(frame, points, _LINE, 2)
    for point in points:
        is_chosen = point.batch == chosen
        x, y = frame.x(point.batch), frame.y(point.fps)
        radius, color = (7, _MARK) if is_chosen else (4, _LINE)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>'
        yield _text(x, y - 12, f"{point.fps:.1f}")
        yield _text(x, _BOTTOM + 20, f"{point.batch} (knee)" if is_chosen else str(point.batch))


def _others(frame: _Frame, others: Curves) -> Iterator[str]:
    """Thin lines without numbers, and what they and the numbered one are."""
    for row, ((name, curve), color) in enumerate(zip(others.items(), _OTHER_LINES), 1):
        yield _polyline(frame, curve, color, 1)
        yield from _legend(row, name, color)
    if others:
        yield from _legend(0, "overlapped", _LINE)


def _legend(row: int, name: str, color: str) -> Iterator[str]:
    y = _TOP + 10 + 16 * row
    yield f'<line x1="{_LEFT + 8}" y1="{y}" x2="{_LEFT + 28}" y2="{y}" stroke="{color}"/>'
    yield _text(_LEFT + 34, y + 4, name, anchor="start")


def _polyline(frame: _Frame, points: Sequence[Point], color: str, width: int) -> str:
    places = " ".join(f"{frame.x(p.batch):.1f},{frame.y(p.fps):.1f}" for p in points)
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _vertical_text(x: float, y: float, text: str) -> str:
    return (
        f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(text)}</text>"
    )
