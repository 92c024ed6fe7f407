"""Names for the renderer's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: uint8 [H, W, 3] BGR, or [H, W] for an alpha or shadow channel.
Image = NDArray[np.uint8]
#: float [H, W]: heights, distances, gains. NumPy 1 and 2 promote scalars differently, so any width.
Plane = NDArray[Any]
