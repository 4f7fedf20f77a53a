"""Keeps what a validation embedded, for pictures of the embedding space."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from numpy.typing import NDArray


@HOOKS.register_module()
class KeepEmbeddings(Hook):  # type: ignore[misc]
    """Keeps embeddings and products of all picks and reference images; other tasks pass by."""

    def __init__(self) -> None:
        self.vectors: list[NDArray[np.float32]] = []
        self.products: list[str] = []

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Take what has an embedding."""
        for one in outputs or ():
            if isinstance(one, dict) and "embedding" in one:
                self.vectors.append(one["embedding"])
                self.products.append(str(one["product_id"]))

    def labels(self) -> NDArray[np.int64]:
        """(n,) int64: the product of each vector, counted in the order of their names."""
        names = {name: i for i, name in enumerate(sorted(set(self.products)))}
        return np.array([names[p] for p in self.products], np.int64)
