"""HNSW over the first rows of a plane: a file of links only, the vectors stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.halves import to_float32
from robollm.gallery.scan import (
    Codes,
    Found,
    everything,
    faiss,
    for_all,
    one_thread,
    selecting,
    view,
)

_STEP = 4096

_CLOSER = 3
"""A graph is asked for fewer rows than a scan, which pays nothing for more."""


class Graph:
    """HNSW over rows 0 to n of a plane.

    A product that the links don't lead to is not found: `tune` measures how often. Similarities
    are those of the stored vectors, as everywhere.

    Args:
        index: a FAISS HNSW index of n rows, without its vectors.
        vectors: (n, D) float16, the rows it was built from, where they lie.
        ef: how many rows a search keeps in sight, at least.
    """

    approximate = True
    first = 0

    def __init__(self, index: Any, vectors: NDArray[np.float16], ef: int) -> None:
        assert index.ntotal == len(vectors)
        self.stop = len(vectors)
        self.ef = ef
        self._vectors = vectors  # they must outlive the index
        self._index = index
        index.own_fields = True  # SWIG gives the view away: the index deletes it
        index.storage = view(Codes(vectors))

    def __len__(self) -> int:
        return self.stop

    def with_ef(self, ef: int) -> Graph:
        """The same links, another `ef`."""
        other = copy(self)  # shares the index and what it points at
        other.ef = ef
        return other

    def candidates(
        self, query: NDArray[np.float32], n: int, allowed: NDArray[np.bool_] | None
    ) -> Found:
        """See `Scan.candidates`; the best n rows that it finds."""
        return self.candidates_many(query[None], n, allowed)[0]

    def candidates_many(
        self, queries: NDArray[np.float32], n: int, allowed: NDArray[np.bool_] | None
    ) -> list[Found]:
        """The same for (Q, D) queries."""
        if for_all(n, len(self)):
            return [everything(self, allowed)] * len(queries)
        n = max(n // _CLOSER, 16)
        params = selecting(allowed, efSearch=max(self.ef, n))
        asked = np.ascontiguousarray(queries, np.float32)
        with one_thread(len(queries) == 1):
            _, rows = self._index.search(asked, n, params=params)
        return [Found(row[row >= 0], -np.inf, False) for row in rows]

    def write(self, file: Path) -> None:
        """Write the links.

        Raises:
            OSError: if the disk is full, or the file can't be written.
        """
        # FAISS, writing itself, doesn't notice if the disk is full in the last moment.
        lib = faiss()
        file.write_bytes(lib.serialize_index(self._index, lib.IO_FLAG_SKIP_STORAGE).data)


def build_graph(
    vectors: NDArray[np.float16],
    *,
    links: int,
    ef_construction: int,
    ef: int,
    progress: Callable[[int, int], None],
) -> Graph:
    """Link (n, D) float16 rows, on all cores.

    Args:
        vectors: the rows, where they lie.
        links: per row and level; twice as many on the lowest.
        ef_construction: rows in sight while linking.
        ef: rows in sight while searching.
        progress: called with rows done and rows in all.
    """
    lib = faiss()
    dim, kind = vectors.shape[1], lib.ScalarQuantizer.QT_fp16
    index = lib.IndexHNSWSQ(dim, kind, links, lib.METRIC_INNER_PRODUCT)
    index.is_trained = True
    index.hnsw.efConstruction = ef_construction
    for start in range(0, len(vectors), _STEP):
        index.add(to_float32(vectors[start : start + _STEP]))
        progress(min(start + _STEP, len(vectors)), len(vectors))
    copied = index.storage
    graph = Graph(index, vectors, ef)
    copied.thisown = True  # the copy that FAISS made while linking goes now
    return graph


def read_graph(file: Path, vectors: NDArray[np.float16], ef: int) -> Graph | None:
    """Read links that `Graph.write` wrote; None if they are of another number of rows."""
    lib = faiss()
    index = lib.read_index(str(file), lib.IO_FLAG_SKIP_STORAGE)
    if index.ntotal != len(vectors) or index.d != vectors.shape[1]:
        return None
    return Graph(index, vectors, ef)
