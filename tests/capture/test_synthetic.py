from __future__ import annotations

import numpy as np
import pytest

from edge.capture.synthetic import SyntheticSource
from edge.geometry import Image


def render(index: int) -> Image:
    return np.full((4, 6, 3), index, np.uint8)


def test_renders_frame_after_frame_at_its_pace() -> None:
    source = SyntheticSource(render, fps=10.0)
    source.open()
    pictures = [source.read() for _ in range(4)]
    assert [int(p.image[0, 0, 0]) for p in pictures if p] == [0, 1, 2, 3]
    assert [p.media_s for p in pictures if p] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_opening_again_starts_over() -> None:
    source = SyntheticSource(render, fps=10.0)
    source.open()
    source.read()
    source.close()
    source.open()
    picture = source.read()
    assert picture is not None
    assert picture.media_s == 0.0
    assert not picture.image.any()
