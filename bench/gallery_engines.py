"""What bench/gallery.py compares: the same vectors in our gallery, NumPy, FAISS, usearch, hnswlib.

Every engine answers with product numbers. What is built is written to disk and opened again by
another process, see `gallery_workers`.
"""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gallery_vectors import DIM, Catalogue, Floats
from numpy.typing import NDArray

from robollm.gallery.records import MadeWith

MADE_WITH = MadeWith("0" * 64, "bench")
SLICE = 65536
EFS = (16, 32, 64, 96, 128, 192, 256, 384, 512)
GOAL = 0.99


@dataclass(frozen=True)
class Case:
    """One size.

    Attributes:
        products: how many.
        each: references of each.
        folder: where everything of this case is kept.
        threads: of all engines.
    """

    products: int
    each: int
    folder: Path
    threads: int

    @property
    def rows(self) -> int:
        """Reference vectors."""
        return self.products * self.each

    @property
    def gallery(self) -> Path:
        """Our folder."""
        return self.folder / "gallery"

    def catalogue(self) -> Catalogue:
        """The vectors' source."""
        return Catalogue(self.products, self.each)

    def write(self) -> None:
        """Write what the others read: the vectors in float16, as our gallery keeps them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "vectors.fp16").open("wb") as file:
            for _, vectors in self.catalogue().blocks():
                vectors.astype(np.float16).tofile(file)

    def half(self) -> NDArray[np.float16]:
        """(rows, DIM) float16, mapped."""
        shape = (self.rows, DIM)
        return np.memmap(self.folder / "vectors.fp16", np.float16, "r", shape=shape)

    def pieces(self) -> Iterator[tuple[int, Floats]]:
        """First row, and (n, DIM) float32."""
        half = self.half()
        for first in range(0, self.rows, SLICE):
            yield first, half[first : first + SLICE].astype(np.float32)


class Engine(ABC):
    """One way to find the nearest product. A process uses it to build, or to open and search."""

    package = ""
    """What has to be installed."""
    graph = False
    """Approximate, by a graph that is slow to build."""
    containers = True
    """Can search a few products of many."""

    def __init__(self, case: Case) -> None:
        self.case = case

    @classmethod
    def missing(cls) -> bool:
        """Whether its package is not installed."""
        return bool(cls.package) and importlib.util.find_spec(cls.package) is None

    @abstractmethod
    def files(self) -> list[Path]:
        """What it keeps on disk."""

    @abstractmethod
    def load(self) -> None:
        """Import what it needs, and set its threads."""

    def build(self) -> dict[str, Any]:
        """Write `files`; more to say about it."""
        return {}

    @abstractmethod
    def open(self) -> None:
        """Read `files`."""

    @abstractmethod
    def whole(self, query: Floats) -> int:
        """The nearest of all products to a (D,) query."""

    @abstractmethod
    def batch(self, queries: Floats) -> list[int]:
        """The nearest products to (Q, D) queries."""

    def prepare(self, products: NDArray[np.int64]) -> Any:
        """A container in the form that `container` wants."""
        each = self.case.each
        return np.sort((products[:, None] * each + np.arange(each)).ravel())

    def container(self, query: Floats, prepared: Any) -> int:
        """The nearest product of a container."""
        raise NotImplementedError

    def change_one(self, vector: Floats) -> None:
        """Add a vector, durably."""
        raise NotImplementedError

    def refresh(self, query: Floats) -> tuple[int, float]:
        """Follow what others committed: the answer to a query then, and seconds it took."""
        raise NotImplementedError

    def tune(self, queries: Floats, wanted: Sequence[int]) -> dict[str, Any]:
        """Choose what can be chosen, for recall@1 of `GOAL` on these queries."""
        return {}

    def about(self) -> dict[str, Any]:
        """What else to say."""
        return {}


class NumPy(Engine):
    """A product of matrix and vector in float32, and argmax; what one writes in a minute."""

    def files(self) -> list[Path]:
        return [self.case.folder / "vectors.fp16"]

    def load(self) -> None:
        pass

    def open(self) -> None:
        self._all = np.empty((self.case.rows, DIM), np.float32)
        for first, piece in self.case.pieces():
            self._all[first : first + len(piece)] = piece

    def whole(self, query: Floats) -> int:
        return int((self._all @ query).argmax()) // self.case.each

    def batch(self, queries: Floats) -> list[int]:
        return [int(i) // self.case.each for i in (queries @ self._all.T).argmax(1)]

    def container(self, query: Floats, prepared: Any) -> int:
        return int(prepared[(self._all[prepared] @ query).argmax()]) // self.case.each


class FaissFlat(Engine):
    """`IndexFlatIP`: exact, float32. A change that shall last writes the whole file."""

    package = "faiss"

    def files(self) -> list[Path]:
        return [self.case.folder / "flat.faiss"]

    def load(self) -> None:
        import faiss

        faiss.omp_set_num_threads(self.case.threads)
        self._faiss: Any = faiss

    def build(self) -> dict[str, Any]:
        index = self._faiss.IndexFlatIP(DIM)
        for _, piece in self.case.pieces():
            index.add(piece)
        self._faiss.write_index(index, str(self.files()[0]))
        return {}

    def open(self) -> None:
        self._index = self._faiss.read_index(str(self.files()[0]))

    def whole(self, query: Floats) -> int:
        return int(self._index.search(query[None], 1)[1][0, 0]) // self.case.each

    def batch(self, queries: Floats) -> list[int]:
        return [int(i) // self.case.each for i in self._index.search(queries, 1)[1][:, 0]]

    def container(self, query: Floats, prepared: Any) -> int:
        params = self._faiss.SearchParameters(sel=self._faiss.IDSelectorArray(prepared))
        found = self._index.search(query[None], 1, params=params)[1]
        return int(found[0, 0]) // self.case.each

    def change_one(self, vector: Floats) -> None:
        self._index.add(vector[None])
        new = self.case.folder / "new.faiss"
        self._faiss.write_index(self._index, str(new))
        sync(new)
        new.unlink()


class UsearchExact(Engine):
    """usearch's exact search over float16 rows in memory."""

    package = "usearch"

    def files(self) -> list[Path]:
        return [self.case.folder / "vectors.fp16"]

    def load(self) -> None:
        import usearch.index

        self._usearch: Any = usearch.index

    def open(self) -> None:
        self._all = np.array(self.case.half())

    def _search(self, rows: NDArray[np.float16], queries: Floats) -> NDArray[np.int64]:
        how = {"metric": "ip", "exact": True, "threads": self.case.threads}
        found = self._usearch.search(rows, queries.astype(np.float16), 1, **how)
        return np.asarray(found.keys, np.int64).reshape(-1)

    def whole(self, query: Floats) -> int:
        return int(self._search(self._all, query)[0]) // self.case.each

    def batch(self, queries: Floats) -> list[int]:
        return [int(i) // self.case.each for i in self._search(self._all, queries)]

    def container(self, query: Floats, prepared: Any) -> int:
        return int(prepared[self._search(self._all[prepared], query)[0]]) // self.case.each


class UsearchGraph(Engine):
    """usearch's HNSW, float16, with its own connectivity (16) and expansion_add (128)."""

    package = "usearch"
    graph = True
    containers = False

    def files(self) -> list[Path]:
        return [self.case.folder / "usearch"]

    def load(self) -> None:
        import usearch.index

        self._usearch: Any = usearch.index

    def _new(self) -> Any:
        return self._usearch.Index(ndim=DIM, metric="ip", dtype="f16")

    def build(self) -> dict[str, Any]:
        index = self._new()
        for first, piece in self.case.pieces():
            keys = np.arange(first, first + len(piece))
            index.add(keys, piece, threads=self.case.threads)
        index.save(str(self.files()[0]))
        return {}

    def open(self) -> None:
        self._index = self._new()
        self._index.load(str(self.files()[0]))

    def whole(self, query: Floats) -> int:
        return int(self._index.search(query, 1, threads=1).keys[0]) // self.case.each

    def batch(self, queries: Floats) -> list[int]:
        keys = self._index.search(queries, 1, threads=self.case.threads).keys
        return [int(i) // self.case.each for i in np.asarray(keys).reshape(-1)]

    def tune(self, queries: Floats, wanted: Sequence[int]) -> dict[str, Any]:
        def use(ef: int) -> None:
            self._index.expansion_search = ef

        return smallest(use, self, queries, wanted)

    def change_one(self, vector: Floats) -> None:
        self._index.add(int(self._index.size), vector, threads=1)
        new = self.case.folder / "new.usearch"
        self._index.save(str(new))
        sync(new)
        new.unlink()


class Hnswlib(Engine):
    """hnswlib, float32, with its own M (16) and ef_construction (200)."""

    package = "hnswlib"
    graph = True
    containers = False

    def files(self) -> list[Path]:
        return [self.case.folder / "hnswlib"]

    def load(self) -> None:
        import hnswlib

        self._hnswlib: Any = hnswlib

    def build(self) -> dict[str, Any]:
        index = self._hnswlib.Index(space="ip", dim=DIM)
        index.init_index(max_elements=self.case.rows, random_seed=6)
        index.set_num_threads(self.case.threads)
        for first, piece in self.case.pieces():
            index.add_items(piece, np.arange(first, first + len(piece)))
        index.save_index(str(self.files()[0]))
        return {}

    def open(self) -> None:
        self._index = self._hnswlib.Index(space="ip", dim=DIM)
        self._index.load_index(str(self.files()[0]))
        self._index.set_num_threads(self.case.threads)

    def whole(self, query: Floats) -> int:
        return int(self._index.knn_query(query, 1, num_threads=1)[0][0, 0]) // self.case.each

    def batch(self, queries: Floats) -> list[int]:
        return [int(i) // self.case.each for i in self._index.knn_query(queries, 1)[0][:, 0]]

    def tune(self, queries: Floats, wanted: Sequence[int]) -> dict[str, Any]:
        return smallest(self._index.set_ef, self, queries, wanted)


def smallest(use: Any, engine: Engine, queries: Floats, wanted: Sequence[int]) -> dict[str, Any]:
    """Set the smallest ef that reaches the goal, or the largest there is."""
    for ef in EFS:
        use(ef)
        recall = float(np.mean(np.array(engine.batch(queries)) == np.array(wanted)))
        if recall >= GOAL:
            break
    return {"ef": ef, "recall@1 when tuned": round(recall, 4)}


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
