"""Join what several views of one object say into one query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
