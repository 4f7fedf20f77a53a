"""Descriptions of a picture that any trick would begin with, and two closed-form classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Predict = Callable[[F64], list[str]]
Scores = Callable[[F64], F64]

_NEIGHBOURS = 5


def hsv_histogram(rgb: U8) -> F64:
    """A colour histogram: 12 hues x 4 saturations x 4 values, square-rooted, of unit length.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (192,) float64; a dot product of two is their Bhattacharyya coefficient.
    """
    hsv = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [12, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
    root: F64 = np.sqrt(counts.astype(np.float64) / max(float(counts.sum()), 1.0))
    return root


def thumbnail(rgb: U8, side: int = 16) -> F64:
    """The picture at `side` x `side` px, each channel less its mean, together of unit length."""
    small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA).astype(np.float64)
    small -= small.mean((0, 1))
    length = float(np.linalg.norm(small))
    flat: F64 = small.ravel() / length if length > 0 else small.ravel()
    return flat


def colour_and_area(rgb: U8, frame_hw: tuple[int, int]) -> F64:
    """Mean and spread of the colours, and how much there is of the foreground.

    Args:
        rgb: (h, w, 3) uint8, the annotated box's crop or the whole picture.
        frame_hw: (height, width) of the whole picture, px.

    Returns:
        (10,) float64: mean RGB, spread of RGB, the crop's share of the frame, its aspect, the
        share of pixels unlike the crop's border, the share of pixels on edges.
    """
    values = rgb.reshape(-1, 3).astype(np.float64) / 255
    rim = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]]).astype(np.float64) / 255
    unlike = np.abs(values - np.median(rim, axis=0)).max(1) > 0.15
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    edges = np.abs(np.diff(grey.astype(np.float64), axis=1)) > 25
    height, width = rgb.shape[:2]
    shape = [
        height * width / (frame_hw[0] * frame_hw[1]),
        np.log(width / height),
        unlike.mean(),
        edges.mean() if edges.size else 0.0,
    ]
    return np.array([*values.mean(0), *values.std(0), *shape])


def _scale(rows: F64) -> tuple[F64, F64]:
    spread = rows.std(0)
    return rows.mean(0), np.where(spread > 1e-9, spread, 1.0)


def lda_scores(rows: F64, labels: Sequence[str]) -> tuple[list[str], Scores]:
    """Linear discriminant analysis with equal priors and one shared covariance.

    Args:
        rows: (N, D) float64.
        labels: N, of two classes or more.

    Returns:
        The C class names, sorted, and a function (Q, D) -> (Q, C): its softmax is the posterior.
    """
    middle, spread = _scale(rows)
    x, y = (rows - middle) / spread, np.array(labels)
    names = sorted(set(labels))
    means = np.stack([x[y == n].mean(0) for n in names])
    rest = x - means[[names.index(n) for n in labels]]
    shared = rest.T @ rest / max(1, len(x) - len(names)) + 1e-3 * np.eye(x.shape[1])
    weights = np.linalg.solve(shared, means.T)  # (D, C)
    bias = -0.5 * np.einsum("cd,dc->c", means, weights)

    def scores(queries: F64) -> F64:
        out: F64 = (queries - middle) / spread @ weights + bias
        return out

    return names, scores


def fit_lda(rows: F64, labels: Sequence[str]) -> Predict:
    """The class that `lda_scores` holds likeliest.

    Args:
        rows: (N, D) float64.
        labels: N, of two classes or more.
    """
    names, scores = lda_scores(rows, labels)
    return lambda queries: [names[i] for i in scores(queries).argmax(1)]


def fit_neighbours(rows: F64, labels: Sequence[str]) -> Predict:
    """The five nearest rows vote, each class's votes weighed by how rare it is."""
    middle, spread = _scale(rows)
    x = (rows - middle) / spread
    names = sorted(set(labels))
    which = np.array([names.index(n) for n in labels])
    weight = 1 / np.bincount(which, minlength=len(names))

    def predict(queries: F64) -> list[str]:
        out = []
        for query in (queries - middle) / spread:
            near = np.argsort(((x - query) ** 2).sum(1), kind="stable")[:_NEIGHBOURS]
            votes = np.bincount(which[near], minlength=len(names)) * weight
            out.append(names[int(votes.argmax())])
        return out

    return predict


def balanced_accuracy(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """The mean over the classes of the share of each that is found."""
    pairs = list(zip(truth, guesses, strict=True))
    parts = [[g == t for t, g in pairs if t == name] for name in sorted(set(truth))]
    return float(np.mean([np.mean(p) for p in parts]))
