"""Join what several views of one object say into one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

OUR_NAMES = {
    "PickRGB": "image",
    "ToteWallRGB": "tote_wall",
    "OnArmLowRGB": "on_arm_low",
    "FarTrayRGB": "far_tray",
}
"""ARMBench's names of the views of a pick -> the names of our streams."""


def our_views(views: Sequence[str]) -> tuple[str, ...]:
    """Names of our streams for the views of a card; a name that ARMBench hasn't is its own."""
    return tuple(OUR_NAMES.get(v, v) for v in views)


def arrange(
    features: Mapping[str, NDArray[np.float32]], views: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Put the views of one object where a fusion head of fixed size wants them.

    Args:
        features: view -> (C,) float32, at least one; every name is among `views`.
        views: the head's views in its order, by our names.

    Returns:
        (1, V, C) float32, zeros where a view is absent, and (1, V) float32, 1 where it is there.
    """
    channels = len(next(iter(features.values())))
    rows = np.zeros((1, len(views), channels), np.float32)
    present = np.zeros((1, len(views)), np.float32)
    for name, row in features.items():
        at = views.index(name)
        rows[0, at], present[0, at] = row, 1.0
    return rows, present


def mean_embedding(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fuse the views of one object: the normalised mean of their unit vectors.

    Works for any subset of views, which the fixed-size MLP of RoboLLM (thesis figure 8.4, N=3)
    does not; a bundle without a trained fusion head uses this.

    Args:
        embeddings: (V, D) float32, unit length, V >= 1.

    Returns:
        (D,) float32, unit length; the first view where the mean vanishes (opposite vectors).
    """
    mean = embeddings.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        return np.asarray(embeddings[0], np.float32)
    return np.asarray(mean / length, np.float32)
