"""A space of embeddings as one picture and one JSON file."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import write_bytes, write_json
from robollm.train.quality.measure import (
    BINS,
    EmbeddingQuality,
    Floats,
    embedding_quality,
    unit_rows,
)

_COLOURED = 20  # classes with a colour of their own
_NAMED = 10  # so many classes have room in a legend
_FEWEST = 5  # points that t-SNE makes sense of
_POSITIVE, _NEGATIVE, _REST = "#1f77b4", "#ff7f0e", "#c8c8c8"


def write_quality(
    folder: Path,
    embeddings: ArrayLike,
    labels: ArrayLike,
    name: str,
    *,
    seed: int = 0,
    points: int = 2000,
) -> EmbeddingQuality:
    """Measure embeddings, and write `<name>.json` and `<name>.png`.

    The picture has the cosines of positive and negative pairs on its left, and t-SNE on its right.

    Args:
        folder: made if missing.
        embeddings: (n, d) real; rows are L2-normalised here.
        labels: (n,) integer.
        name: of the files and of the picture.
        seed: of t-SNE, of the choice of its points, and of the classes whose pairs are measured
            (see `embedding_quality`).
        points: how many samples t-SNE takes at most.

    Returns:
        What the JSON file holds.

    Raises:
        ConfigError: as `embedding_quality`, or scikit-learn is missing.
    """
    rows, ids = unit_rows(embeddings, labels)
    quality = embedding_quality(rows, ids, seed=seed)
    rng = np.random.default_rng(seed)
    if len(rows) > points:
        chosen = np.sort(rng.choice(len(rows), points, replace=False))
        rows, ids = rows[chosen], ids[chosen]
    places = tsne(rows, rng) if len(rows) >= _FEWEST else None
    write_json(folder / f"{name}.json", {"name": name, **quality.as_dict()}, indent=2)
    _draw(folder / f"{name}.png", name, quality, places, ids)
    return quality


def tsne(rows: Floats, rng: np.random.Generator) -> Floats:
    """Two dimensions for the eye, by scikit-learn's t-SNE from the two main axes.

    Args:
        rows: (n, d) float64, of length 1, n at least 5.
        rng: for t-SNE, and for a start where all rows are the same.

    Returns:
        (n, 2).

    Raises:
        ConfigError: scikit-learn is missing.
    """
    try:
        manifold = importlib.import_module("sklearn.manifold")
    except ImportError as e:
        raise ConfigError(
            "t-SNE needs scikit-learn, which is not installed", fix="pip install 'robollm[train]'"
        ) from e
    centred = rows - rows.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    start: Floats = left[:, :2] * sizes[:2]
    spread = start[:, 0].std()
    start = start / spread * 1e-4 if spread > 1e-9 else rng.normal(0.0, 1e-4, (len(rows), 2))
    engine = manifold.TSNE(
        perplexity=min(30.0, (len(rows) - 1) / 3),
        init=start.astype(np.float32),
        random_state=int(rng.integers(2**31)),
    )
    return np.asarray(engine.fit_transform(rows), dtype=np.float64)


def _draw(
    path: Path,
    name: str,
    quality: EmbeddingQuality,
    places: Floats | None,
    ids: NDArray[Any],
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle(
        f"{name}: {quality.samples} embeddings of {quality.dim}, {quality.classes} classes, "
        f"isotropy {quality.isotropy:.3f}",
        fontsize=12,
    )
    _draw_cosines(left, quality)
    _draw_places(right, places, ids)
    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue())


def _draw_cosines(axes: Any, quality: EmbeddingQuality) -> None:
    edges = np.linspace(-1, 1, BINS + 1)
    lowest, highest = 1.0, 0.0
    for pairs, label, colour in (
        (quality.positives, "positive", _POSITIVE),
        (quality.negatives, "negative", _NEGATIVE),
    ):
        if pairs is None:
            continue
        share = np.asarray(pairs.histogram) / pairs.count
        text = f"{label}: {pairs.count:,} pairs, mean {pairs.mean:.2f} ± {pairs.std:.2f}"
        axes.stairs(share, edges, fill=True, alpha=0.4, color=colour, label=text)
        axes.stairs(share, edges, color=colour, linewidth=0.8)
        axes.axvline(pairs.mean, color=colour, linestyle="--", linewidth=1)
        lowest, highest = min(lowest, pairs.smallest), max(highest, float(share.max()))
    part = quality.pair_samples < quality.samples
    title = f"cosines of pairs of {quality.pair_samples}" if part else "cosines of pairs"
    if quality.auc is not None:
        title += f": AUC {quality.auc:.4f}, overlap {quality.overlap:.3f}"
    axes.set_title(title, fontsize=10)
    axes.set_xlim(np.clip(np.floor(lowest * 10) / 10, -1.0, 0.9), 1.0)
    axes.set_ylim(0, 1.25 * highest)  # room for the legend
    axes.set_xlabel("cosine")
    axes.set_ylabel("share of pairs per bin")
    axes.legend(fontsize=8, loc="upper left")


def _draw_places(axes: Any, places: Floats | None, ids: NDArray[Any]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if places is None:
        axes.set_title("t-SNE needs more samples", fontsize=10)
        return
    found, counts = np.unique(ids, return_counts=True)
    largest = found[np.lexsort((found, -counts))][:_COLOURED]
    size = float(np.clip(6000 / len(ids), 4, 30))
    rest = ~np.isin(ids, largest)
    title = f"t-SNE of {len(ids)}, one colour per class"
    if rest.any():
        title = f"t-SNE of {len(ids)}, the {_COLOURED} largest of {len(found)} classes in colour"
        axes.scatter(*places[rest].T, s=size, color=_REST, linewidths=0)
    colours = _colours(len(largest))
    for label, colour in zip(np.sort(largest), colours, strict=True):
        axes.scatter(*places[ids == label].T, s=size, color=colour, linewidths=0, label=str(label))
    if len(found) <= _NAMED:
        axes.legend(fontsize=8, title="class", title_fontsize=8, loc="upper right", markerscale=1.5)
    axes.set_title(title, fontsize=10)
    axes.set_aspect("equal", adjustable="datalim")


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    chart = colormaps["tab10" if count <= 10 else "tab20"]
    return [chart(k) for k in range(count)]
