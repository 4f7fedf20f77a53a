"""Numbers about a space of embeddings (thesis sections 5.2.4 and 5.3.2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robollm.core.errors import ConfigError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS = 128
"""Of the cosine histograms, over [-1, 1]; the last one holds 1 itself."""
_ROWS = 20_000  # for isotropy at once: 120 MB at 768 dimensions
_FINE = 2048  # finer bins in each of them, for the AUC


@dataclass(frozen=True)
class PairCosines:
    """The cosines of all pairs of one kind.

    Attributes:
        count: pairs, each counted once.
        mean: of their cosines.
        std: of their cosines, about the mean, divided by the count.
        smallest: cosine.
        largest: cosine.
        histogram: `BINS` counts over [-1, 1].
    """

    count: int
    mean: float
    std: float
    smallest: float
    largest: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class EmbeddingQuality:
    """What `embedding_quality` measures.

    Attributes:
        samples: n.
        pair_samples: how many of them the pairs below are of; all, unless there are many.
        dim: d.
        classes: how many different labels.
        isotropy: in (0, 1], 1 is best: min over max of F(c) = sum over v of exp(c . v), for the
            unit vectors c that are eigenvectors of V^T V, with both signs (Mu & Viswanath 2018).
        isotropy_printed: max over min, as eq. 5.5 is printed: >= 1, and 1 is best.
        positives: pairs of equal labels; None without one.
        negatives: pairs of different labels; None without one.
        overlap: the area that both histograms share, 0 to 1; None where one is missing.
        auc: the chance that a positive's cosine is above a negative's, ties half; None as above.
        auc_error: how far the AUC can be off because cosines closer than 7.7e-6 count as ties.
    """

    samples: int
    pair_samples: int
    dim: int
    classes: int
    isotropy: float
    isotropy_printed: float
    positives: PairCosines | None
    negatives: PairCosines | None
    overlap: float | None
    auc: float | None
    auc_error: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; with the histograms' edges."""
        return {**asdict(self), "histogram_edges": np.linspace(-1, 1, BINS + 1).tolist()}


def embedding_quality(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    block: int = 256,
    most: int = 20_000,
    seed: int = 0,
) -> EmbeddingQuality:
    """Measure isotropy, and how far cosines tell positives from negatives.

    Isotropy is of all rows. Pairs grow with the square, so they are of at most `most` rows: classes
    are drawn and taken whole, but for the last one, which fills what room is left. Every pair of
    these rows counts exactly once. Pairs are made block by block, so memory is of order
    n * d + block * most + d^2.

    Args:
        embeddings: (n, d) real, n and d at least 2; rows are L2-normalised here.
        labels: (n,) integer.
        block: how many rows at once.
        most: rows for the pairs, at least 2.
        seed: of the classes that are drawn.

    Returns:
        The record.

    Raises:
        ConfigError: shapes don't fit, a row has no direction, or `block` or `most` is too small.
    """
    if block < 1 or most < 2:
        raise ConfigError(
            f"block is {block}, most {most}; wanted at least 1 and 2", fix="try 256 and 20000"
        )
    rows, ids = unit_rows(embeddings, labels)
    isotropy = isotropy_score(rows)
    chosen = whole_classes(ids, most, seed)
    paired, of = rows[chosen], ids[chosen]
    near, far = _Tally(), _Tally()
    for start in range(0, len(paired), block):
        cosines = np.clip(paired[start : start + block] @ paired[start:].T, -1.0, 1.0)
        later = np.arange(cosines.shape[1])[None, :] > np.arange(cosines.shape[0])[:, None]
        same = of[start : start + block, None] == of[None, start:]
        near.add(cosines[same & later])
        far.add(cosines[~same & later])
    overlap, auc, error = None, None, None
    if near.count and far.count:
        p, q = near.fine / near.count, far.fine / far.count
        overlap = float(np.minimum(_coarse(p), _coarse(q)).sum())
        below = np.cumsum(q) - q
        auc, error = float(p @ (below + q / 2)), float(p @ q / 2)
    return EmbeddingQuality(
        samples=len(rows),
        pair_samples=len(paired),
        dim=rows.shape[1],
        classes=len(np.unique(ids)),
        isotropy=isotropy,
        isotropy_printed=1 / isotropy,
        positives=near.record(),
        negatives=far.record(),
        overlap=overlap,
        auc=auc,
        auc_error=error,
    )


def whole_classes(ids: NDArray[Any], most: int, seed: int) -> NDArray[np.int64]:
    """Draw classes until `most` rows are full; the last class may be cut.

    Args:
        ids: (n,) integer labels.
        most: rows.
        seed: of the draw.

    Returns:
        (min(n, most),) int64, rows in ascending order.
    """
    if len(ids) <= most:
        return np.arange(len(ids))
    _, number = np.unique(ids, return_inverse=True)
    place = np.random.default_rng([seed, 6]).permutation(int(number.max()) + 1)
    return np.sort(np.argsort(place[number], kind="stable")[:most])


def unit_rows(embeddings: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[Any]]:
    """Check and normalise.

    Args:
        embeddings: see `embedding_quality`.
        labels: see `embedding_quality`.

    Returns:
        (n, d) float64 of length 1, and (n,) labels.

    Raises:
        ConfigError: shapes don't fit, or a row has no direction.
    """
    rows, ids = np.asarray(embeddings, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or min(rows.shape) < 2:
        raise ConfigError(
            f"embeddings are {rows.shape}, wanted (n, d) with both at least 2",
            fix="pass one row per sample",
        )
    if ids.shape != rows.shape[:1] or ids.dtype.kind not in "iu":
        raise ConfigError(
            f"labels are {ids.shape} {ids.dtype}, wanted ({len(rows)},) of integers",
            fix="pass one class index per embedding",
        )
    lengths = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ConfigError(
            f"{len(bad)} of {len(rows)} embeddings are zero or not finite, the first is row "
            f"{bad[0]}",
            fix="find the samples that break the model, and measure without them",
        )
    return rows / lengths[:, None], ids


def isotropy_score(rows: Floats) -> float:
    """The smallest F(c) over the largest; see `EmbeddingQuality.isotropy`.

    An eigenvector's sign is arbitrary, F is not the same for both, and both are unit vectors: so
    both are taken.

    Args:
        rows: (n, d) float64, of length 1.

    Returns:
        In (0, 1].
    """
    directions = np.linalg.eigh(rows.T @ rows).eigenvectors
    sums = np.zeros((2, len(directions)))
    for start in range(0, len(rows), _ROWS):
        along = rows[start : start + _ROWS] @ directions
        sums += np.exp(along).sum(axis=0), np.exp(-along).sum(axis=0)
    return float(sums.min() / sums.max())


class _Tally:
    """Counts and moments of a stream of cosines."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.smallest, self.largest = np.inf, -np.inf
        self.fine: Counts = np.zeros(BINS * _FINE, dtype=np.int64)

    def add(self, cosines: Floats) -> None:
        """Take a block's cosines."""
        if not len(cosines):
            return
        # Chan's update: sums of squares about the mean don't lose digits.
        mean, count = float(cosines.mean()), self.count + len(cosines)
        apart = mean - self.mean
        self.squares += float(np.square(cosines - mean).sum())
        self.squares += apart**2 * self.count * len(cosines) / count
        self.mean += apart * len(cosines) / count
        self.count = count
        self.smallest = min(self.smallest, float(cosines.min()))
        self.largest = max(self.largest, float(cosines.max()))
        places = ((cosines + 1) * (len(self.fine) / 2)).astype(np.int64)
        self.fine += np.bincount(np.minimum(places, len(self.fine) - 1), minlength=len(self.fine))

    def record(self) -> PairCosines | None:
        """None for an empty stream."""
        if not self.count:
            return None
        return PairCosines(
            self.count,
            self.mean,
            float(np.sqrt(self.squares / self.count)),
            self.smallest,
            self.largest,
            tuple(_coarse(self.fine).tolist()),
        )


def _coarse(fine: NDArray[Any]) -> NDArray[Any]:
    summed: NDArray[Any] = fine.reshape(BINS, _FINE).sum(axis=1)
    return summed
