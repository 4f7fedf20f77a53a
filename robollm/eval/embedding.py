"""Embeddings laid flat, so that one can see which products lie near each other."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError

FEW = 40
"""With fewer vectors t-SNE shows its own taste; the two main directions are honest."""


def flatten(
    vectors: NDArray[np.float32], *, most: int = 1500, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], str]:
    """Lay vectors into a plane: by t-SNE if scikit-learn is there, else by their main directions.

    Distances in the plane are for looking at. No figure is computed from them.

    Args:
        vectors: (N, D), unit length.
        most: take this many, drawn at random, if there are more.
        seed: of the draw and of t-SNE.

    Returns:
        (M, 2) float64 places within [-1, 1]; (M,) rows of `vectors` they belong to, ascending; the
        name of the method, with its settings.

    Raises:
        EvalError: for an array of another shape, or values that are not finite.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise EvalError(f"vectors are {vectors.shape}, want (N, D) finite numbers")
    rows: NDArray[np.int64] = np.arange(len(vectors))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), most, replace=False))
    taken = vectors[rows].astype(np.float64)
    flat, method = _main_directions(taken), "PCA, 2 of its directions"
    if len(rows) >= FEW and (neighbours := _neighbours(taken, flat, seed)) is not None:
        flat, method = neighbours, "t-SNE, perplexity 30, cosine, begun at PCA"
    flat = flat - flat.mean(0) if len(flat) else flat
    return flat / max(float(np.abs(flat).max(initial=0.0)), 1e-12), rows, method


def _main_directions(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Principal components 1 and 2, (N, 2); their signs are fixed by the largest entry."""
    out = np.zeros((len(vectors), 2))
    if not len(vectors):
        return out
    _, _, axes = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    for k, axis in enumerate(axes[:2]):
        sign = np.sign(axis[np.abs(axis).argmax()]) or 1.0
        out[:, k] = (vectors - vectors.mean(0)) @ (sign * axis)
    return out


def _neighbours(
    vectors: NDArray[np.float64], start: NDArray[np.float64], seed: int
) -> NDArray[np.float64] | None:
    """Run t-SNE, (N, 2); None without scikit-learn."""
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    # As scikit-learn's own start from PCA: small, so that the cost's gradient does the work.
    begun = start / max(float(start[:, 0].std()), 1e-12) * 1e-4
    # One thread: on busy cores several wait for each other, for a hundred times as long.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # it warns of itself when many vectors are equal
        return np.asarray(
            TSNE(2, perplexity=30.0, metric="cosine", init=begun, random_state=seed).fit_transform(
                vectors
            ),
            np.float64,
        )
