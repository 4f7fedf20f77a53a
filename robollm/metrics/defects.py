"""ARMBench's figures for defects: per image, per induct (any of its frames), per label.

Called is what is most probable. One class against the rest: precision, recall and FPR; `combined`
is any defect against nominal. From the scores (a defect's probability, combined 1 - p(nominal)):
AUC, AP, and recall at an FPR. Definitions in `docs/defects.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS, NOMINAL, VIDEO_LABELS
from robollm.metrics.curves import NAN, Ranking, Vector, rates, thinned
from robollm.metrics.tally import Share, worth

NORMAL = LABELS.index(NOMINAL)
DEFECTS = tuple(c for c in range(len(LABELS)) if c != NORMAL)
FPRS = (0.01, 0.05)
VIDEO_DEFECTS = tuple(label for label in VIDEO_LABELS if label != NOMINAL)
"""Labels of videos; each is a package_defect."""
UNJUDGED = "not judged"
Flags = NDArray[np.bool_]
Table = NDArray[np.bool_]


class _Column(NamedTuple):
    """One defect, or any, against the rest."""

    counts: Flags  # (N,), all but negatives that were not judged
    said: Flags  # (N,)
    true: Flags  # (N,)
    ranking: Ranking  # of those that count

    @classmethod
    def of(cls, said: Flags, true: Flags, scores: Vector, judged: Flags) -> _Column:
        counts = judged | true
        return cls(counts, said, true, Ranking(scores[counts], true[counts]))


class Calls:
    """What was said about N things, and what is so, for each defect and for any defect.

    What nothing was said about is a defect that was missed, or nominal that was not called so. It
    is never a negative: else each error would lower the FPR, and raise the AUC.

    Args:
        said: (N, 3) bool: which classes they were called; nominal is "no defect". None of them:
            nothing was said.
        true: (N, 3) bool.
        scores: (N, 3) float; nominal's column is not used. -inf: nothing was said.
        combined: (N,) float, score of "any defect".
    """

    def __init__(self, said: Table, true: Table, scores: Vector, combined: Vector) -> None:
        self.said, self.true, self._scores, self._combined = said, true, scores, combined
        judged: Flags = np.asarray(said.any(axis=1))
        self._columns = {
            LABELS[c]: _Column.of(said[:, c], true[:, c], scores[:, c], judged) for c in DEFECTS
        }
        self._columns["combined"] = _Column.of(_any(said), _any(true), combined, judged)

    @classmethod
    def of_images(cls, probabilities: Vector, true: Table) -> Calls:
        """From (N, 3) probabilities and (N, 3) labels: called what is most probable.

        A row of NaN was not judged: it is called nothing, and scores below all others.
        """
        judged = ~np.isnan(probabilities[:, NORMAL])
        scores = np.where(judged[:, None], probabilities, -np.inf)
        said = np.eye(len(LABELS), dtype=bool)[scores.argmax(axis=1)] & judged[:, None]
        combined = np.where(judged, 1 - probabilities[:, NORMAL], -np.inf)
        return cls(said, true, scores, combined)

    def any_of(self, groups: NDArray[np.int64], true: Table) -> Calls:
        """Of groups: a defect is called if it is in any member; scores: the highest.

        A group is called nominal if a member was judged and none was called a defect.

        Args:
            groups: (N,) numbers from 0, each of them there.
            true: (M, 3) bool, the labels in each group, of more than its members here.
        """
        count = len(true)
        said, true = np.zeros((count, len(LABELS)), bool), true.copy()
        scores = np.full((count, len(LABELS)), -np.inf)
        combined = np.full(count, -np.inf)
        np.logical_or.at(said, groups, self.said)
        np.maximum.at(scores, groups, self._scores)
        np.maximum.at(combined, groups, self._combined)
        judged = said.any(axis=1)
        for calls in (said, true):
            calls[:, NORMAL] = ~_any(calls)
        said[:, NORMAL] &= judged
        return Calls(said, true, scores, combined)

    def figures(self, weights: Vector | None = None) -> dict[str, float]:
        """Precision, recall, FPR, AUC, AP and recall at `FPRS`, by defect and combined.

        And `mean_recall` of the classes that occur, nominal too, and `accuracy`; NaN: there is no
        such thing to count.

        Args:
            weights: (N,) >= 0; None: 1 each.
        """
        out: dict[str, float] = {}
        for name, (counts, said, true, ranking) in self._columns.items():
            some = None if weights is None else weights[counts]
            for key, value in rates(said[counts], true[counts], some)._asdict().items():
                out[f"{name}_{key}"] = value
            out[f"{name}_auc"] = ranking.auc(some)
            out[f"{name}_ap"] = ranking.average_precision(some)
            for fpr in FPRS:
                out[f"{name}_recall@fpr{fpr:g}"] = ranking.recall_at(fpr, some)
        found = [rates(self.said[:, c], self.true[:, c], weights) for c in range(len(LABELS))]
        recalls = [one.recall for one in found if one.recall == one.recall]
        out["mean_recall"] = float(np.mean(recalls)) if recalls else NAN
        each = np.ones(len(self.said)) if weights is None else weights
        right = (self.said == self.true).all(axis=1)
        out["accuracy"] = float(each[right].sum() / each.sum()) if each.sum() else NAN
        return out

    def share_of(self, name: str) -> tuple[Flags | None, list[Flags]]:
        """(N,) hits and cases, by thing, of a share; of another figure None and all its sides."""
        if name == "accuracy":
            return (self.said == self.true).all(axis=1), [np.ones(len(self.said), bool)]
        if name == "mean_recall":
            return None, list(self.true.T)
        column, _, figure = name.rpartition("_")
        counts, said, true, _ = self._columns[column]
        cases = {"precision": said, "recall": true, "fpr": counts & ~true}
        if figure not in cases:
            return None, [cases["recall"], cases["fpr"]]
        return cases[figure] & (true if figure == "precision" else said), [cases[figure]]

    def curve(self, column: str, kind: str) -> tuple[Vector, Vector] | None:
        """A curve for a picture, nothing interpolated; None: there are not both sides.

        Args:
            column: "multi_pick", "package_defect" or "combined".
            kind: "roc": recall over FPR; "pr": precision over recall.
        """
        counts, _, true, ranking = self._columns[column]
        if true[counts].all() or not true.any():
            return None
        return thinned(*(ranking.roc() if kind == "roc" else ranking.precision_recall()))


def _any(calls: Table) -> Table:
    """(N,) whether any defect is among (N, 3) classes."""
    return np.asarray(calls[:, list(DEFECTS)].any(axis=1), np.bool_)


@dataclass(frozen=True, slots=True)
class DefectImage:
    """One image, or one frame of a video.

    Attributes:
        induct: what it belongs to: an induct, a video or a pick.
        labels: what it shows, of `LABELS` or `VIDEO_DEFECTS`; a video may have two.
        probabilities: class, of `LABELS` -> probability; None: it was not judged.
        frame: its place among the induct's.
        seconds: when it was taken; None: not known.
    """

    induct: str
    labels: tuple[str, ...]
    probabilities: Mapping[str, float] | None
    frame: int = 0
    seconds: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """What was called what.

    Attributes:
        rows: true labels, those that occur; of two, "a + b".
        columns: what was called: `LABELS`, and `UNJUDGED` if that occurs.
        counts: (R, C) int64.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: NDArray[np.int64]


class DefectTally:
    """The figures of `Calls` per image and per induct as a `Tally`; the unit is the induct.

    Names: `image_` and `induct_` before those of `Calls.figures`. An induct's labels are those of
    all its images; it is called a defect if any image is, and its scores are its images' highest.
    Of videos: `frame_` and `video_`, and `video_open_recall`, `video_deconstruction_recall`: of
    videos with this label, those called package_defect in any frame.

    An image that was not judged is called nothing: not a defect, not nominal. So it costs recall,
    or accuracy, and is left out where only negatives count; `counts` says how many.

    Args:
        images: at least one.
        video: whether they are frames of videos.

    Attributes:
        units: inducts, sorted.
        counts: `images`, `inducts`, and of each `..._not_judged`.

    Raises:
        EvalError: if there are no images, for a label or a class that is not known, or a
            probability that is not a number.
    """

    def __init__(self, images: Sequence[DefectImage], *, video: bool = False) -> None:
        if not images:
            raise EvalError("there is no image to count", fix="evaluate a split that has images")
        names, unit = np.unique([i.induct for i in images], return_inverse=True)
        self.units: tuple[str, ...] = tuple(names.tolist())
        self._unit = unit.astype(np.int64)
        self._images = images
        true = np.array([truth(i.labels) for i in images])
        whole = np.zeros((len(names), len(LABELS)), bool)
        np.logical_or.at(whole, self._unit, true)
        per_image = Calls.of_images(probabilities(images), true)
        per_induct = per_image.any_of(self._unit, whole)
        self._one, self._all = ("frame", "video") if video else ("image", "induct")
        self._calls = {self._one: per_image, self._all: per_induct}
        self._marked: dict[str, tuple[Vector, Vector]] = {}
        for label in VIDEO_DEFECTS if video else ():
            has = np.zeros(len(names), bool)
            np.logical_or.at(has, self._unit, [label in i.labels for i in images])
            called = per_induct.said[:, LABELS.index("package_defect")] & has
            self._marked[f"{self._all}_{label}_recall"] = called.astype(float), has.astype(float)
        self.counts: dict[str, int] = {}
        for name, calls in self._calls.items():
            self.counts[f"{name}s"] = len(calls.said)
            self.counts[f"{name}s_not_judged"] = int((~calls.said.any(axis=1)).sum())

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        each = np.ones(len(self.units)) if counts is None else counts.astype(np.float64)
        out: dict[str, float] = {}
        for name, weights in ((self._one, each[self._unit]), (self._all, each)):
            found = self._calls[name].figures(weights)
            out |= {f"{name}_{key}": value for key, value in found.items()}
        for name, (hits, cases) in self._marked.items():
            out[name] = float(each @ hits / (each @ cases)) if each @ cases else NAN
        return out

    def share(self, name: str) -> Share:
        """Hits and cases of a rate; of the others, the side of fewer cases; see `Tally`."""
        if name in self._marked:
            return self._marked[name]
        level, _, rest = name.partition("_")
        hits, sides = self._calls[level].share_of(rest)
        unit = self._unit if level == self._one else np.arange(len(self.units))

        def by_unit(flags: Flags) -> Vector:
            return np.bincount(unit, flags, len(self.units)).astype(np.float64)

        cases = min((by_unit(s) for s in sides if s.any()), key=worth, default=by_unit(sides[0]))
        return (None if hits is None else by_unit(hits)), cases

    def curves(self) -> dict[str, tuple[Vector, Vector]]:
        """`LEVEL_COLUMN_roc` and `LEVEL_COLUMN_pr` for pictures; only those with both sides."""
        out = {}
        for level, calls in self._calls.items():
            for column in (*(LABELS[c] for c in DEFECTS), "combined"):
                for kind in ("roc", "pr"):
                    curve = calls.curve(column, kind)
                    if curve is not None:
                        out[f"{level}_{column}_{kind}"] = curve
        return out

    def confusion(self) -> Confusion:
        """What each image was called, by its true labels."""
        rows = [" + ".join(sorted(i.labels)) for i in self._images]
        said = self._calls[self._one].said
        called = np.where(said.any(axis=1), said.argmax(axis=1), len(LABELS))
        names, row = np.unique(rows, return_inverse=True)
        counts = np.zeros((len(names), len(LABELS) + 1), np.int64)
        np.add.at(counts, (row, called), 1)
        columns = (*LABELS, UNJUDGED)[: len(LABELS) + bool(counts[:, -1].any())]
        return Confusion(tuple(names.tolist()), columns, counts[:, : len(columns)])


def truth(labels: Sequence[str]) -> list[bool]:
    """(3,) whether each of `LABELS` is there; labels of videos are a package_defect.

    Raises:
        EvalError: for no label, or one that is not known.
    """
    strange = sorted({*labels} - {*LABELS, *VIDEO_DEFECTS})
    if strange or not labels:
        raise EvalError(
            f"the labels {list(labels)} are not all known; want some of "
            f"{', '.join((*LABELS, *VIDEO_DEFECTS))}",
            fix="leave these images out, or correct their annotation",
        )
    names = {"package_defect" if one in VIDEO_DEFECTS else one for one in labels}
    return [label in names for label in LABELS]


def probabilities(images: Sequence[DefectImage]) -> Vector:
    """(N, 3) in the order of `LABELS`; NaN where an image was not judged.

    Raises:
        EvalError: if a class is missing, or its probability is not a number.
    """
    out = np.full((len(images), len(LABELS)), np.nan)
    for row, image in zip(out, images, strict=True):
        if image.probabilities is None:
            continue
        row[:] = [image.probabilities.get(label, np.nan) for label in LABELS]
        if not np.isfinite(row).all():
            raise EvalError(
                f"induct {image.induct}, frame {image.frame}, has the probabilities "
                f"{dict(image.probabilities)}; want a number for each of {', '.join(LABELS)}",
                fix="evaluate a bundle with these classes",
            )
    return out
