"""Can anything be judged on these pixels at all?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unusable(pixels: NDArray[np.uint8], *, dark_below: float, flat_below: float) -> str | None:
    """Say why a window can't be judged, or None if it can.

    A covered lens, a dead light or a saturated sensor gives an even picture, on which every
    classifier still answers something: absence of evidence must not become "nominal".

    Args:
        pixels: (H, W, C) uint8, H and W > 0; the alpha channel, if any, doesn't count.
        dark_below: smallest mean grey level, 0-255.
        flat_below: smallest standard deviation of the grey level, 0-255.
    """
    step = max(1, min(pixels.shape[:2]) // 64)
    sample = pixels[::step, ::step, :3].astype(np.float32).mean(axis=2)
    mean, spread = float(sample.mean()), float(sample.std())
    if mean < dark_below:
        return f"too dark: mean grey {mean:.1f}, want {dark_below:g}"
    if spread < flat_below:
        return f"no contrast: grey spread {spread:.1f}, want {flat_below:g}"
    return None
