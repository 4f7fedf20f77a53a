"""The two light heads on crop features: embeddings for retrieval and defect probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import InferenceError
from robollm.runtime.backbone import Features
from robollm.runtime.bundle import Bundle
from robollm.runtime.session import Session

_FEATURES = ("map", "cls")


class Embedder:
    """The retrieval head: crop features -> unit vectors (thesis figure 8.4).

    Args:
        bundle: a verified bundle.
        provider: where to run.
        threads: intra-op threads; 0: one per core.

    Raises:
        ModelFileError: see `Session`.
    """

    def __init__(self, bundle: Bundle, provider: str, threads: int) -> None:
        self._dim = bundle.embedding_dim
        self._session = Session(
            bundle.graphs["identification"],
            provider,
            threads=threads,
            inputs=_FEATURES,
            outputs=("embedding",),
        )

    def run(self, features: Features) -> NDArray[np.float32]:
        """Embed N crops: (N, D) float32, unit length.

        Raises:
            InferenceError: if the run fails or a vector has another size or no length.
        """
        (vectors,) = self._session.run({"map": features.map, "cls": features.cls})
        if vectors.shape != (len(features.cls), self._dim):
            raise InferenceError(
                f"identification gave {vectors.shape}, want ({len(features.cls)}, {self._dim})",
                fix="correct embedding.dim in bundle.json or export again",
            )
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (length > 1e-6).all():
            raise InferenceError("identification gave a zero vector", fix="export the bundle again")
        return np.asarray(vectors / length, np.float32)


class Inspector:
    """The defect head: crop features -> class probabilities (thesis section 8.3).

    Args:
        bundle: a verified bundle.
        provider: where to run.
        threads: intra-op threads; 0: one per core.

    Raises:
        ModelFileError: see `Session`.
    """

    def __init__(self, bundle: Bundle, provider: str, threads: int) -> None:
        self._labels = bundle.defect_labels
        self._temperature = np.float32(bundle.thresholds.defect_temperature)
        self._session = Session(
            bundle.graphs["defects"],
            provider,
            threads=threads,
            inputs=_FEATURES,
            outputs=("logits",),
        )

    def run(self, features: Features) -> list[dict[str, float]]:
        """Judge N crops: class name -> probability, each summing to 1.

        Raises:
            InferenceError: if the run fails or the number of classes is another one.
        """
        (logits,) = self._session.run({"map": features.map, "cls": features.cls})
        if logits.shape != (len(features.cls), len(self._labels)):
            raise InferenceError(
                f"defects gave {logits.shape}, want ({len(features.cls)}, {len(self._labels)})",
                fix="correct labels.defects in bundle.json or export again",
            )
        scaled = logits.astype(np.float64) / self._temperature
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        p = weights / weights.sum(axis=1, keepdims=True)
        return [dict(zip(self._labels, map(float, row), strict=True)) for row in p]
