"""FAISS behind the Gallery protocol: exact inner product, filtered by the manifest."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import Match
from robollm.core.errors import GalleryError
from robollm.gallery.base import check_query, check_vectors, ranked


class FaissGallery:
    """An exact FAISS index (`IndexFlatIP`) and the product of each of its rows.

    A manifest is searched through `IDSelectorArray`, which touches only its rows: .02 ms for 50
    products of 190,000, where `IDSelectorBatch` scans everything.

    Args:
        product_ids: product of each row.
        index: a faiss index of as many unit vectors, metric inner product.

    Raises:
        GalleryError: if the two don't belong together.
    """

    def __init__(self, product_ids: Sequence[str], index: Any) -> None:
        import faiss

        if index.ntotal != len(product_ids) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise GalleryError(
                f"index has {index.ntotal} vectors (metric {index.metric_type}) for "
                f"{len(product_ids)} rows, want as many, by inner product",
                fix="build the gallery again",
            )
        self._index = index
        self._ids = list(product_ids)
        self._rows: dict[str, list[int]] = {}
        for row, product in enumerate(self._ids):
            self._rows.setdefault(product, []).append(row)
        self._most = max((len(r) for r in self._rows.values()), default=0)

    @classmethod
    def of(cls, product_ids: Sequence[str], vectors: NDArray[np.float32]) -> FaissGallery:
        """Index (N, D) float vectors; normalised here.

        Raises:
            GalleryError: see `robollm.gallery.base.check_vectors`.
        """
        import faiss

        unit = check_vectors(product_ids, vectors)
        index = faiss.IndexFlatIP(unit.shape[1])
        index.add(unit)
        return cls(product_ids, index)

    @property
    def dim(self) -> int:
        """See `Gallery`."""
        return int(self._index.d)

    @property
    def products(self) -> AbstractSet[str]:
        """See `Gallery`."""
        return self._rows.keys()

    def search(
        self, query: NDArray[np.float32], k: int, allow: AbstractSet[str] | None = None
    ) -> list[Match]:
        """See `Gallery`."""
        faiss: Any = importlib.import_module("faiss")  # its stubs lack SearchParameters(sel=)
        check_query(query, self.dim)
        if not self._ids:
            return []
        q = np.ascontiguousarray(query[None], np.float32)
        if allow is None:
            # Enough rows that k distinct products must be among them, then all that tie with the
            # last of them: equal cosines are ordered by product id, not by row.
            n = min(len(self._ids), (k + 1) * self._most)
            cosines, rows = self._index.search(q, n)
            while (
                n < len(self._ids) and cosines[0, -1] >= self._best(cosines, rows, k)[-1].similarity
            ):
                n = min(len(self._ids), 4 * n)
                cosines, rows = self._index.search(q, n)
        else:
            ids = np.array(sorted(r for p in allow for r in self._rows.get(p, ())), np.int64)
            if not len(ids):
                return []
            params = faiss.SearchParameters(sel=faiss.IDSelectorArray(ids))
            cosines, rows = self._index.search(q, len(ids), params=params)
        return self._best(cosines, rows, k)

    def _best(self, cosines: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> list[Match]:
        best: dict[str, float] = {}
        for cosine, row in zip(cosines[0], rows[0], strict=True):
            if row >= 0:
                product = self._ids[row]
                best[product] = max(best.get(product, -2.0), float(cosine))
        return ranked(best, k)

    def write(self, path: Path) -> None:
        """Write the index (not the product ids) to a file."""
        import faiss

        faiss.write_index(self._index, str(path))


def read_index(path: Path) -> Any:
    """Read a FAISS index.

    Raises:
        GalleryError: if FAISS can't read it.
    """
    import faiss

    try:
        return faiss.read_index(str(path))
    except RuntimeError as e:  # faiss raises nothing finer
        raise GalleryError(
            f"{path} is not a readable FAISS index", fix="build the gallery again"
        ) from e
