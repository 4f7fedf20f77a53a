"""Measure how to search the whole gallery on this machine, and keep the index for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import CANDIDATES
from robollm.core.errors import GalleryError
from robollm.gallery.derived import Centroids, save
from robollm.gallery.engine import Numbered, record_name
from robollm.gallery.graph import Graph, build_graph
from robollm.gallery.lock import now
from robollm.gallery.names import Names
from robollm.gallery.plan import SearchPlan
from robollm.gallery.plane import Plane, all_centroids, signatures
from robollm.gallery.reader import GalleryReader
from robollm.gallery.rows import Rows
from robollm.gallery.scan import Codes, to_bytes
from robollm.gallery.store import open_writer
from robollm.gallery.vectors import no_progress
from robollm.gallery.whole import WholeSearch

FEWEST = 1000
"""Fewer living vectors are searched exactly: nothing can be gained."""

QUERIES = 1000
"""Queries that recall is measured with: 2 misses keep a recall of .99 beyond doubt, 4 don't."""

_ROUNDS, _PER_ROUND = 5, 20
_LINKS = 32
_EF_CONSTRUCTION = 80
_EFS = (32, 64, 128, 256, 512)
_LIKE_REAL = 0.8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to search, measured.

    Attributes:
        name: for people.
        ms: median time of one query, in ms, all candidates in turn.
        recall: share of queries whose best product is that of the exact search.
        recall_low: lower end of the 95 % (Wilson) interval of `recall`.
        build_s: seconds to make its index; 0: there is none.
        bytes: size of its index in memory.
    """

    name: str
    ms: float
    recall: float
    recall_low: float
    build_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What was measured, and what was chosen.

    Attributes:
        chosen: name of the candidate that is kept.
        why: why that one.
        candidates: all that were measured.
        queries: what the queries were.
        references: living references.
        rows: vectors that are searched: references, or centroids.
        k: products asked for.
        recall_min: recall that was wanted.
        budget_ms: time of an exact search that would be short enough.
        written_bytes: size of what was written to G/index.
        generation: of the gallery that was measured.
        made: when, ISO 8601 in UTC.
    """

    chosen: str
    why: str
    candidates: tuple[Candidate, ...]
    queries: str
    references: int
    rows: int
    k: int
    recall_min: float
    budget_ms: float
    written_bytes: int
    generation: int
    made: str


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    name: str
    search: WholeSearch
    graph: Graph | None = None
    codes: Codes | None = None
    build_s: float = 0.0
    bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Queries:
    vectors: NDArray[np.float32]
    hidden: NDArray[np.int64]
    said: str


def tune(
    folder: Path,
    *,
    product_score: str = "max",
    whole: str = "auto",
    recall_min: float = 0.99,
    budget_ms: float = 2.0,
    progress: Callable[[int, int], None] = no_progress,
    seed: int = 0,
) -> TuneReport:
    """Measure ways to search, keep the best one's index in G/index and what was found as a record.

    Args:
        folder: the gallery.
        product_score: as in `SearchPlan`.
        whole: "exact" or "approximate": choose among those; "auto": among both.
        recall_min: share of queries whose best product an approximate search must find; the
            lower end of the interval must reach it.
        budget_ms: an exact search that takes no longer is kept, whatever else is faster.
        progress: called with rows linked and rows in all.
        seed: of the queries.

    Raises:
        GalleryError: if the gallery can't be read or written, or approximate search is asked for
            and no candidate keeps `recall_min`, or there are too few vectors for it.
    """
    SearchPlan(product_score, whole)  # says so if it is neither
    reader = GalleryReader(folder)
    try:
        rows = reader.load()
    finally:
        reader.close()
    numbered = Numbered.of(rows, Names())
    plane, centroids = _plane(product_score, rows, numbered)
    if plane.living < FEWEST:
        if whole == "approximate":
            raise GalleryError(
                f"{folder} has {plane.living} vectors to search, want {FEWEST} for an index",
                fix="search it exactly",
            )
        ways = [_Way("fp16", WholeSearch.over(plane))]
        asked = _Queries(np.empty((0, rows.dim), np.float32), np.empty(0, np.int64), "none")
        measured = [Candidate("fp16", math.nan, 1.0, 1.0, 0.0, 0)]
        chosen, why = 0, f"{plane.living} vectors are too few (under {FEWEST}): exact is kept"
    else:
        asked = _queries(plane, numbered.references, product_score, np.random.default_rng(seed))
        ways = _ways(plane, whole, progress)
        measured = _measured(ways, asked)
        chosen, why = _choose(ways, measured, whole, recall_min, budget_ms)
    best = ways[chosen]
    written = save(
        folder, product_score, rows, graph=best.graph, codes=best.codes, centroids=centroids
    )
    report = TuneReport(
        chosen=best.name,
        why=why,
        candidates=tuple(m for m in measured if not math.isnan(m.ms)),
        queries=asked.said,
        references=len(rows.references),
        rows=plane.living,
        k=CANDIDATES,
        recall_min=recall_min,
        budget_ms=budget_ms,
        written_bytes=written,
        generation=rows.generation,
        made=now(),
    )
    with open_writer(folder) as writer:
        writer.put_record(*record_name(product_score), asdict(report))
        writer.commit()
    return report


def _plane(score: str, rows: Rows, numbered: Numbered) -> tuple[Plane, Centroids | None]:
    if score == "max":
        return numbered.references, None
    plane = all_centroids(numbered.references, len(numbered.names))
    # Names of a new gallery are numbered in the order of its products: of `rows.numbers`.
    numbers, marks = signatures(rows.products, rows.references)
    return plane, Centroids(plane.base, numbers, marks)


def _queries(plane: Plane, references: Plane, score: str, rng: np.random.Generator) -> _Queries:
    """Queries that are like real ones: another picture of a product than those that are searched.

    A reference whose product has others asks for them while it is hidden itself. If there are
    none, or centroids are searched, which nothing can be hidden from, it is a noisy copy.
    """
    rows = np.flatnonzero(references.alive)
    counts = np.bincount(references.product[rows])
    several = rows[counts[references.product[rows]] >= 2]
    held_out = score == "max" and len(several) >= QUERIES
    picked = rng.choice(several if held_out else rows, min(QUERIES, len(rows)), replace=False)
    vectors = references.take(picked).astype(np.float32)
    if held_out:
        said = f"{len(picked)} references of products that have others, each hidden while it asks"
        return _Queries(vectors, picked, said)
    noise = rng.standard_normal(vectors.shape).astype(np.float32)
    noise -= vectors * np.einsum("ij,ij->i", noise, vectors)[:, None]
    noise /= np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-6)
    vectors = _LIKE_REAL * vectors + math.sqrt(1 - _LIKE_REAL**2) * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    said = f"{len(picked)} references with noise, cosine {_LIKE_REAL} to what they were"
    return _Queries(vectors, np.full(len(picked), -1), said)


def _ways(plane: Plane, whole: str, progress: Callable[[int, int], None]) -> list[_Way]:
    # Exact ones are measured in any case: they are what recall is against.
    ways = [_Way("fp16", WholeSearch.over(plane))]
    began = time.perf_counter()
    codes = to_bytes(plane.base)
    spent = time.perf_counter() - began
    search = WholeSearch.over(plane, codes=codes)
    ways.append(_Way("8 bit, re-scored", search, None, codes, spent, codes.values.nbytes))
    if whole != "exact":
        began = time.perf_counter()
        graph = build_graph(
            plane.base,
            links=_LINKS,
            ef_construction=_EF_CONSTRUCTION,
            ef=_EFS[0],
            progress=progress,
        )
        spent = time.perf_counter() - began
        size = len(graph) * 4 * 2 * (_LINKS + 1)
        for ef in _EFS:
            tried = graph.with_ef(ef)
            search = WholeSearch.over(plane, graph=tried)
            ways.append(_Way(f"HNSW {_LINKS}, ef {ef}", search, tried, None, spent, size))
    return ways


def _measured(ways: list[_Way], asked: _Queries) -> list[Candidate]:
    plane = ways[0].search.plane
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(_ROUNDS):
        for way, spent in zip(ways, times, strict=True):
            for i in range(turn * _PER_ROUND, (turn + 1) * _PER_ROUND):
                query = asked.vectors[i % len(asked.vectors)]
                began = time.perf_counter()
                way.search.best(query, CANDIDATES)
                spent.append(time.perf_counter() - began)
    hits = np.zeros(len(ways), np.int64)
    allowed = plane.alive.copy()
    for query, hidden in zip(asked.vectors, asked.hidden.tolist(), strict=True):
        if hidden >= 0:
            allowed[hidden] = False
        mask = allowed if hidden >= 0 else None
        truth = _first(ways[0].search, query, mask)
        for i, way in enumerate(ways):
            # What is exact by proof isn't measured again a thousand times.
            hits[i] += way.graph is None or _first(way.search, query, mask) == truth
        if hidden >= 0:
            allowed[hidden] = True
    n = len(asked.vectors)
    return [
        Candidate(
            way.name,
            1e3 * float(np.median(spent)),
            hit / n,
            1.0 if way.graph is None else _wilson_low(hit, n),
            way.build_s,
            way.bytes,
        )
        for way, spent, hit in zip(ways, times, hits.tolist(), strict=True)
    ]


def _first(
    search: WholeSearch, query: NDArray[np.float32], allowed: NDArray[np.bool_] | None
) -> float:
    """Similarity of the best product: which of equal ones comes first is not the index' doing."""
    _, score = search.best(query, 1, allowed)
    return float(score.max()) if len(score) else -2.0


def _choose(
    ways: list[_Way], measured: list[Candidate], whole: str, recall_min: float, budget_ms: float
) -> tuple[int, str]:
    exact = min((i for i, w in enumerate(ways) if w.graph is None), key=lambda i: measured[i].ms)
    good = [
        i
        for i, w in enumerate(ways)
        if w.graph is not None and measured[i].recall_low >= recall_min
    ]
    if whole == "approximate":
        if not good:
            best = max(measured[2:], key=lambda m: m.recall)
            raise GalleryError(
                f"no index keeps recall {recall_min}: {best.name} has {best.recall:.4f} "
                f"({best.recall_low:.4f} at least)",
                fix="lower --recall-min, or search exactly",
            )
        return _index(good, measured, recall_min, budget_ms)
    if whole == "exact":
        return exact, "the fastest exact search"
    if measured[exact].ms <= budget_ms:
        return exact, f"exact search takes {measured[exact].ms:.2f} ms, {budget_ms} ms is enough"
    if not good:
        return exact, f"no index keeps recall {recall_min}"
    one, why = _index(good, measured, recall_min, budget_ms)
    if measured[one].ms >= measured[exact].ms:
        return exact, f"no index that keeps recall {recall_min} is faster than exact search"
    return one, f"{why}; exact search takes {measured[exact].ms:.2f} ms"


def _index(
    good: list[int], measured: list[Candidate], recall_min: float, budget_ms: float
) -> tuple[int, str]:
    """The most thorough index that the budget allows: real queries are harder than ours."""
    within = [i for i in good if measured[i].ms <= budget_ms]
    if within:
        return within[-1], f"of those with recall {recall_min} the widest within {budget_ms} ms"
    return min(good, key=lambda i: measured[i].ms), f"the fastest that keeps recall {recall_min}"


def _wilson_low(hits: int, n: int) -> float:
    """Lower end of the 95 % Wilson interval of a share."""
    z, p = 1.96, hits / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n))
