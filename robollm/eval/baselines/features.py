"""A description of pictures as a predictor: products by cosine, defects by linear discriminants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.content import content_box
from robollm.core.errors import EvalError
from robollm.core.frame import Frame
from robollm.data.armbench_defects import LABELS
from robollm.data.shortcuts import Scores, lda_scores
from robollm.eval.baselines.training_images import F64, Describe, TrainingImages
from robollm.eval.records import Json
from robollm.gallery.records import MadeWith
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

PRE_PICK = "PickRGB"
Vector = NDArray[np.float32]


class FeatureBaseline:
    """Compares pictures by a fixed description, and learns defects from the training split.

    Args:
        name: of the predictor.
        describe: (h, w, 3) uint8 RGB -> (dim,), not all zero.
        dim: length of a description.
        version: changes when `describe` gives other values.
        options: see `TrainingImages.of`.
        defects: what defects are told from; None: from `describe`.
        learns: how, for people.

    Attributes:
        name: of the predictor.
        tasks: identification, and defects if there is something to learn from.
    """

    classes = "object"

    def __init__(
        self,
        name: str,
        describe: Callable[[NDArray[np.uint8]], F64],
        dim: int,
        *,
        version: str,
        options: Mapping[str, Any],
        defects: Describe | None = None,
        learns: str = "linear discriminants of the same description",
    ) -> None:
        self.name, self.dim = name, dim
        self._describe = describe
        self._defects = defects or (lambda rgb, _: describe(rgb))
        self._learns = learns
        digest = hashlib.sha256(f"robollm {name} {version}".encode()).hexdigest()
        self.made_with = MadeWith(digest, f"{name} {version}")
        self._train = TrainingImages.of(options)
        if len(set(self._train.labels)) < 2 and not self._train.why_none:
            self._train = TrainingImages((), "the training split has one label only")
        also = () if self._train.why_none else ("defects",)
        self.tasks = frozenset({"identification", *also})
        self._learned: tuple[list[str], Scores] | None = None

    def about(self) -> Json:
        """See `Predictor`: what it learned from, or why it can't judge defects."""
        why = self._train.why_none
        learned = f"{self._learns}, from {len(self._train.images)} training pictures, equal priors"
        return {
            "name": self.name,
            "classes": self.classes,
            "version": self.made_with.bundle,
            "defects": f"not judged: {why}" if why else learned,
        }

    def segment(self, frame: Frame, truth: Sequence[Json], laps: Laps) -> list[Json]:
        """See `Predictor`.

        Raises:
            EvalError: always; it is not among the tasks.
        """
        raise EvalError(f"{self.name} finds no instances", fix="take it for other tasks")

    def embed(self, views: Mapping[str, Region], truth: str, laps: Laps) -> dict[str, Vector]:
        """See `Predictor`: several views are one by their mean."""
        with laps.stage("describe"):
            out = {name: self._vector(region) for name, region in views.items()}
        mean = _unit(np.sum([v.astype(np.float64) for v in out.values()], axis=0))
        first = {"n1": out[PRE_PICK]} if PRE_PICK in out else {}
        return {**out, **first, "n3": mean}

    def reference(self, region: Region, product: str) -> Vector:
        """See `Predictor`. Cut to the product where the backdrop is plain, as picks are cut out."""
        box = content_box(region.frame.pixels)
        return self._vector(region if box is None else Region(region.frame, box))

    def inspect(self, region: Region, truth: str, laps: Laps) -> dict[str, float]:
        """See `Predictor`. The first call learns."""
        if self._train.why_none:
            raise EvalError(f"{self.name} can't judge defects: {self._train.why_none}")
        if self._learned is None:
            self._learned = lda_scores(*self._train.described(self._defects))
        names, scores = self._learned
        with laps.stage("describe"):
            row = self._defects(rgb_of(region), region.frame.hw)
        score = scores(row[None])[0]
        odds = np.exp(score - score.max())
        found = dict(zip(names, (odds / odds.sum()).tolist(), strict=True))
        return {label: found.get(label, 0.0) for label in LABELS}

    def close(self) -> None:
        """See `Predictor`."""

    def _vector(self, region: Region) -> Vector:
        return _unit(self._describe(rgb_of(region)))


def rgb_of(region: Region) -> NDArray[np.uint8]:
    """A region's pixels, (h, w, 3) uint8 RGB.

    Raises:
        EvalError: for a frame of another channel order; all files are read as RGB.
    """
    if region.frame.order != "rgb":
        raise EvalError(f"the picture is {region.frame.order!r}, baselines look at RGB only")
    return region.pixels


def _unit(row: F64) -> Vector:
    length = float(np.linalg.norm(row))
    # A blank picture has no description: any direction is as good, but it must be one.
    out = row / length if length > 0 else np.full(len(row), len(row) ** -0.5)
    return np.asarray(out, np.float32)
