"""Our gallery in bench/gallery.py: built, tuned, searched, and changed while somebody reads."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from gallery_engines import GOAL, MADE_WITH, Case, Engine
from gallery_vectors import DIM, Floats, ids
from numpy.typing import NDArray

from robollm.core.decide import Match
from robollm.gallery.plan import SearchPlan
from robollm.gallery.records import Product
from robollm.gallery.store import GalleryWriter, create_gallery, open_gallery, open_writer
from robollm.gallery.tune import tune

MANY = 1000


def number_of(matches: list[Match]) -> int:
    """The first match's product number."""
    return int(matches[0].product_id[1:])


class Ours(Engine):
    """A gallery folder, whole search exact."""

    plan = SearchPlan(whole="exact")
    copy = ""

    @property
    def folder(self) -> Path:
        """Its own copy of the gallery: an index belongs to one of them, and opening is cold."""
        return self.case.gallery.with_name("gallery" + self.copy)

    def files(self) -> list[Path]:
        return [self.folder]

    def load(self) -> None:
        import faiss

        faiss.omp_set_num_threads(self.case.threads)

    def build(self) -> dict[str, Any]:
        """As a build of images does it: product by product, a commit every few thousand."""
        create_gallery(self.case.gallery, dim=DIM, made_with=MADE_WITH)
        spent = 0.0
        with open_writer(self.case.gallery, made_with=MADE_WITH) as writer:
            for numbers, vectors in self.case.catalogue().blocks():
                began = time.perf_counter()
                for name, rows in zip(ids(numbers), vectors, strict=True):
                    add(writer, name, rows)
                writer.commit()
                spent += time.perf_counter() - began
        return {"write_s": round(spent, 2), "references_per_s": round(self.case.rows / spent)}

    def open(self) -> None:
        self._gallery = open_gallery(
            self.folder,
            embedding_sha256=MADE_WITH.embedding_sha256,
            bundle=MADE_WITH.bundle,
            search=self.plan,
        )

    def whole(self, query: Floats) -> int:
        return number_of(self._gallery.search(query, 1))

    def batch(self, queries: Floats) -> list[int]:
        return [number_of(found) for found in self._gallery.search_many(queries, 1)]

    def prepare(self, products: NDArray[np.int64]) -> frozenset[str]:
        return frozenset(ids(products.tolist()))

    def container(self, query: Floats, prepared: frozenset[str]) -> int:
        return number_of(self._gallery.search(query, 1, prepared))

    def about(self) -> dict[str, Any]:
        return {"plan": self._gallery.plan}

    def refresh(self, query: Floats) -> tuple[int, float]:
        began = time.perf_counter()
        self._gallery = self._gallery.refreshed()
        spent = time.perf_counter() - began
        return self.whole(query), spent


class OursTuned(Ours):
    """Exact by what `robollm gallery tune --whole exact` chose."""

    copy = "-tuned"
    whole_search = "exact"
    containers = False

    def build(self) -> dict[str, Any]:
        shutil.copytree(self.case.gallery, self.folder)
        began = time.perf_counter()
        report = tune(self.folder, whole=self.whole_search, recall_min=GOAL)
        return {"tune_s": round(time.perf_counter() - began, 1), "tuned": asdict(report)}


class OursApproximate(OursTuned):
    """Approximate by what `robollm gallery tune --whole approximate` chose."""

    plan = SearchPlan(whole="approximate")
    copy = "-approximate"
    whole_search = "approximate"
    graph = True


class OursCentroid(Ours):
    """The same folder, a product's references as one: the cosine of their mean."""

    plan = SearchPlan(whole="exact", product_score="centroid")
    containers = False


def add(writer: GalleryWriter, name: str, rows: Floats) -> None:
    """Put a product with its references."""
    sources = [f"{name}/{k + 1}.jpg" for k in range(len(rows))]
    writer.put_product(Product(name, title=f"made-up product {name}"))
    writer.add_references(name, rows, sources=sources, sha256s=["0" * 64] * len(rows))


class Changer:
    """A process that changes the gallery; new products get numbers above those of the case."""

    def __init__(self, case: Case) -> None:
        self._writer = open_writer(case.gallery, made_with=MADE_WITH)
        self._next = self._first = case.products
        self._rng = np.random.default_rng(9)

    def add(self, many: int) -> tuple[int, Floats, float]:
        """Commit new products; number and vector of the last, and the seconds it took."""
        rows = self._rng.standard_normal((many, 1, DIM)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=2, keepdims=True)
        began = time.perf_counter()
        for name, vectors in zip(ids(range(self._next, self._next + many)), rows, strict=True):
            add(self._writer, name, vectors)
        self._writer.commit()
        spent = time.perf_counter() - began
        self._next += many
        return self._next - 1, rows[-1, 0], spent

    def remove(self, many: int) -> float:
        """Commit the removal of products that were added; seconds."""
        names = ids(range(self._first, self._first + many))
        began = time.perf_counter()
        for name in names:
            self._writer.remove_product(name)
        self._writer.commit()
        spent = time.perf_counter() - began
        self._first += many
        return spent

    def close(self) -> None:
        """End it."""
        self._writer.close()


def rates(seconds: list[float], many: int = 0) -> dict[str, float]:
    """Milliseconds, and with `many`, the changes of a commit, changes in a second."""
    half, most = np.percentile(seconds, (50, 95))
    row = {"p50_ms": 1e3 * half, "p95_ms": 1e3 * most}
    row |= {"changes_per_s": many / half} if many else {}
    return {"runs": len(seconds), **{k: float(f"{v:.3g}") for k, v in row.items()}}
