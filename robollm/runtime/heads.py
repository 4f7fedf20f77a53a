"""The light heads on features: embeddings for retrieval, their fusion, defect probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.core import fuse
from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime.backbone import Features
from robollm.runtime.bundle import Bundle
from robollm.runtime.precision import placed
from robollm.runtime.session import Place, Session

_FEATURES = ("map", "cls")


class Embedder:
    """The retrieval head: features -> unit vectors (thesis figure 8.4).

    A bundle with `fusion` has a second way to a vector, which joins the views of one object
    before the projection; queries take that one, references are single pictures and don't.

    Args:
        bundle: a verified bundle.
        place: where to run, and in which precision.

    Attributes:
        views: what the fusion head joins, in its order, by our names; empty: there is none.
        where: role -> what it runs on.

    Raises:
        ModelFileError: see `Session`.
    """

    def __init__(self, bundle: Bundle, place: Place) -> None:
        self._dim = bundle.embedding_dim
        self.views = fuse.our_views(bundle.views)
        outputs = ("embedding", "features") if self.views else ("embedding",)
        path, where = placed(bundle, "identification", place)
        self._session = Session(path, where, inputs=_FEATURES, outputs=outputs)
        self.where = {"identification": self._session.where}
        self._fusion: Session | None = None
        if self.views:
            path, where = placed(bundle, "fusion", place)
            self._fusion = Session(
                path, where, inputs=("features", "present"), outputs=("embedding",)
            )
            self.where["fusion"] = self._fusion.where

    def run(self, features: Features) -> NDArray[np.float32]:
        """Embed N pictures each for itself: (N, D) float32, unit length.

        Raises:
            InferenceError: if the run fails or a vector has another size or no length.
        """
        vectors = self._session.run({"map": features.map, "cls": features.cls})[0]
        return self._unit("identification", vectors, len(features.cls))

    def queries(self, features: Features) -> NDArray[np.float32]:
        """Embed N objects of which one picture each is there, from before the pick.

        Returns:
            (N, D) float32, unit length.

        Raises:
            InferenceError: see `run`.
        """
        if not self.views:
            return self.run(features)
        pooled = self._pooled(features)
        rows = np.zeros((len(pooled), len(self.views), pooled.shape[1]), np.float32)
        present = np.zeros(rows.shape[:2], np.float32)
        at = self.views.index("image")  # a card without it is refused
        rows[:, at], present[:, at] = pooled, 1.0
        return self._fuse(rows, present)

    def join(self, features: Features, views: Sequence[str]) -> NDArray[np.float32]:
        """Embed one object of which several views are there: (D,) float32, unit length.

        Args:
            features: of V views, V >= 1.
            views: their names; with a fusion head all among `self.views`.

        Raises:
            InferenceError: see `run`.
        """
        if not self.views:
            return fuse.mean_embedding(self.run(features))
        pooled = dict(zip(views, self._pooled(features), strict=True))
        (vector,) = self._fuse(*fuse.arrange(pooled, self.views))
        return np.asarray(vector, np.float32)

    def _pooled(self, features: Features) -> NDArray[np.float32]:
        """What the fusion head takes of N pictures: (N, C) float32."""
        return np.asarray(
            self._session.run({"map": features.map, "cls": features.cls})[1], np.float32
        )

    def _fuse(
        self, features: NDArray[np.float32], present: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(N, V, C) and (N, V) to (N, D), unit length."""
        assert self._fusion is not None
        (vectors,) = self._fusion.run({"features": features, "present": present})
        return self._unit("fusion", vectors, len(present))

    def _unit(self, name: str, vectors: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        if vectors.shape != (n, self._dim):
            raise InferenceError(
                f"{name} gave {vectors.shape}, want ({n}, {self._dim})",
                fix="correct embedding.dim in bundle.json or export again",
            )
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (length > 1e-6).all():
            raise InferenceError(f"{name} gave a zero vector", fix="export the bundle again")
        return np.asarray(vectors / length, np.float32)


class Inspector:
    """The defect head: features -> class probabilities (thesis section 8.3).

    Args:
        bundle: a verified bundle.
        place: where to run, and in which precision.

    Raises:
        ModelFileError: see `Session`.
    """

    def __init__(self, bundle: Bundle, place: Place) -> None:
        self._labels = bundle.defect_labels
        self._temperature = np.float32(bundle.thresholds.defect_temperature)
        joins = "defects_sequence" in bundle.graphs
        outputs = ("logits", "features") if joins else ("logits",)
        path, where = placed(bundle, "defects", place)
        self._session = Session(path, where, inputs=_FEATURES, outputs=outputs)
        self.where = {"defects": self._session.where}
        self._sequence: Session | None = None
        if joins:
            path, where = placed(bundle, "defects_sequence", place)
            names = ("features", "present", "reference", "has_reference")
            self._sequence = Session(path, where, inputs=names, outputs=("logits",))
            self.where["defects_sequence"] = self._sequence.where

    def run(self, features: Features) -> list[dict[str, float]]:
        """Judge N pictures each for itself: class name -> probability, each summing to 1.

        Raises:
            InferenceError: if the run fails or the number of classes is another one.
        """
        logits = self._session.run({"map": features.map, "cls": features.cls})[0]
        return self._probabilities("defects", logits, len(features.cls))

    def run_sequence(self, frames: Features, reference: Features | None = None) -> dict[str, float]:
        """Judge one object from T pictures of it, and a picture of how it should look.

        Args:
            frames: of T pictures, T >= 1.
            reference: of one picture; None: there is none.

        Returns:
            Class name -> probability.

        Raises:
            ModelFileError: if the bundle has no graph `defects_sequence`.
            InferenceError: see `run`.
        """
        if self._sequence is None:
            raise ModelFileError(
                "the bundle has no graph 'defects_sequence'",
                fix="export a defect head that was trained on sequences or with references",
            )
        seen = self._session.run({"map": frames.map, "cls": frames.cls})[1]
        like = np.zeros_like(seen[:1])
        if reference is not None:
            like = self._session.run({"map": reference.map, "cls": reference.cls})[1]
        (logits,) = self._sequence.run(
            {
                "features": seen[None],
                "present": np.ones((1, len(seen)), np.float32),
                "reference": like,
                "has_reference": np.array([reference is not None], np.float32),
            }
        )
        return self._probabilities("defects_sequence", logits, 1)[0]

    def _probabilities(
        self, name: str, logits: NDArray[np.float32], n: int
    ) -> list[dict[str, float]]:
        if logits.shape != (n, len(self._labels)):
            raise InferenceError(
                f"{name} gave {logits.shape}, want ({n}, {len(self._labels)})",
                fix="correct labels.defects in bundle.json or export again",
            )
        scaled = logits.astype(np.float64) / self._temperature
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        p = weights / weights.sum(axis=1, keepdims=True)
        return [dict(zip(self._labels, map(float, row), strict=True)) for row in p]


class Pooler:
    """Features of parts of a tote, from the tote's own map: no further backbone run.

    Args:
        bundle: a verified bundle.
        place: where to run.

    Raises:
        ModelFileError: the bundle has no graph `regions`, or has adapters; or see `Session`.
    """

    def __init__(self, bundle: Bundle, place: Place) -> None:
        if "regions" not in bundle.graphs:
            raise ModelFileError(
                f"crop_features: tote needs the graph 'regions', which bundle {bundle.name!r} "
                "hasn't got",
                fix="set crop_features: crops, or export a bundle with `regions`",
            )
        if bundle.adapters:  # a head would get features that it was not trained on
            raise ModelFileError(
                "crop_features: tote needs one encoding that serves all tasks; bundle "
                f"{bundle.name!r} has adapters for {', '.join(bundle.adapters)}",
                fix="set crop_features: crops, or export a bundle without adapters",
            )
        path, where = placed(bundle, "regions", place)
        self._session = Session(path, where, inputs=("map", "boxes"), outputs=("maps", "cls"))
        self.where = {"regions": self._session.where}

    def run(self, tote: Features, boxes: NDArray[np.float32]) -> Features:
        """Pool N boxes, (N, 4) float32 xyxy in canvas px, of one tote.

        Raises:
            InferenceError: if the run fails or the outputs don't have the promised shape.
        """
        grid, cls = self._session.run({"map": tote.map, "boxes": boxes})
        if grid.ndim != 4 or len(grid) != len(boxes) or cls.shape != grid.shape[:2]:
            raise InferenceError(
                f"regions gave map {grid.shape} and cls {cls.shape} for {len(boxes)} boxes, want "
                "(n, C, h, w) and (n, C)",
                fix="export the bundle again",
            )
        return Features(grid, cls)
