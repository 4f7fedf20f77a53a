"""Scoring a stretch of vectors where they lie, exactly or with a proved bound.

FAISS reads the mapped vector file itself: its fp16 code is the file's content. Opening costs
nothing, all processes share the memory, and a new snapshot needs only another view.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.halves import to_float32

EVERYTHING = 4
"""A stretch that is asked for more than 1/4 of its rows answers all of them."""

_BLOCK = 4096

_WORTH_THREADS = 20_000
"""Fewer products of a query and a row are not worth waking FAISS's threads."""
_HALF_EPS = 2.0**-24  # half a unit in the last place of float32


def faiss() -> Any:
    """The module, imported when it is first needed; its stubs are incomplete."""
    return importlib.import_module("faiss")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a stretch answers to one query.

    Attributes:
        rows: (n,) int64, its best rows among all rows of the plane.
        ceiling: no other allowed row of the stretch has an exact similarity above this.
        everything: there is no other allowed row.
    """

    rows: NDArray[np.int64]
    ceiling: float
    everything: bool


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Queries as codes want them.

    Attributes:
        values: (Q, D) float32.
        step: (Q,) what their scores are multiplied with to be similarities.
        error: (Q,) how far these may then be from the exact ones.
    """

    values: NDArray[np.float32]
    step: NDArray[np.float32]
    error: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Rows as FAISS codes, and how far the codes are from the rows.

    Attributes:
        values: (n, D) float16: the rows themselves; or uint8: round(row / scale) + 128.
        scale: (D,) float32, of uint8 codes.
        residual: largest length of row / scale - (code - 128), of uint8 codes.
        reach: largest length of code - 128, of uint8 codes.
    """

    values: NDArray[np.float16] | NDArray[np.uint8]
    scale: NDArray[np.float32] | None = None
    residual: float = 0.0
    reach: float = 0.0

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> Codes:
        """Rows `start` to `stop`."""
        return Codes(self.values[start:stop], self.scale, self.residual, self.reach)

    def asked(self, queries: NDArray[np.float32]) -> Asked:
        """What to ask the codes, and how far their scores may be off.

        Scales of uint8 codes go to the query, where they cost nothing per row. FAISS multiplies
        such codes in whole numbers, three times faster, so the query is rounded to them too.

        With s the query times the scale, i its rounding and t the step of it,
        |q·row - t i·code| <= |s| |row / scale - code| + |s - t i| |code| (Cauchy-Schwarz). And a
        float32 sum of D products is off by D units in the last place of |q| |row| at most.

        Args:
            queries: (Q, D) float32.
        """
        length = np.linalg.norm(queries, axis=1)
        rounding = 4 * (queries.shape[1] + 8) * _HALF_EPS * (length + 1e-6)
        if self.scale is None:
            ones = np.ones(len(queries), np.float32)
            return Asked(np.ascontiguousarray(queries, np.float32), ones, rounding)
        scaled = queries * self.scale
        step = np.maximum(np.abs(scaled).max(axis=1, keepdims=True) / 127, 1e-30)
        whole = np.rint(scaled / step)
        off = np.linalg.norm(scaled, axis=1) * self.residual
        off += np.linalg.norm(scaled - step * whole, axis=1) * self.reach
        # 1 %: these lengths are float32 sums themselves.
        error = 1.01 * off + rounding
        return Asked(np.ascontiguousarray(whole, np.float32), step[:, 0], error)


def to_bytes(vectors: NDArray[np.float16]) -> Codes:
    """Round rows to one byte per number, each dimension by its own largest value."""
    peak = np.zeros(vectors.shape[1], np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = to_float32(vectors[start : start + _BLOCK])
        np.maximum(peak, np.abs(block).max(axis=0), out=peak)
    scale = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    values = np.empty(vectors.shape, np.uint8)
    residual = reach = 0.0
    for start in range(0, len(vectors), _BLOCK):
        wanted = to_float32(vectors[start : start + _BLOCK]) / scale
        rounded = np.rint(wanted)
        values[start : start + _BLOCK] = rounded + 128
        residual = max(residual, float(np.linalg.norm(wanted - rounded, axis=1).max()))
        reach = max(reach, float(np.linalg.norm(rounded, axis=1).max()))
    return Codes(values, scale, residual, reach)


class Scan:
    """A stretch of rows that FAISS scans one by one.

    Args:
        codes: the rows.
        first: number of the first of them among all rows of the plane.
    """

    approximate = False

    def __init__(self, codes: Codes, first: int) -> None:
        self.codes, self.first = codes, first
        self.stop = first + len(codes)
        self._index = view(codes)

    def __len__(self) -> int:
        return len(self.codes)

    def candidates(
        self, query: NDArray[np.float32], n: int, allowed: NDArray[np.bool_] | None
    ) -> Found:
        """The best n rows of those that are allowed.

        Args:
            query: (D,) float32.
            n: how many.
            allowed: (rows of the stretch,) bool; None: all.
        """
        return self.candidates_many(query[None], n, allowed)[0]

    def candidates_many(
        self, queries: NDArray[np.float32], n: int, allowed: NDArray[np.bool_] | None
    ) -> list[Found]:
        """The same for (Q, D) queries."""
        if for_all(n, len(self)):
            return [everything(self, allowed)] * len(queries)
        asked = self.codes.asked(queries)
        with one_thread(len(queries) == 1 or len(queries) * len(self) < _WORTH_THREADS):
            scores, rows = self._index.search(asked.values, n, params=selecting(allowed))
        ceilings = scores[:, -1] * asked.step + asked.error
        kept = [row[row >= 0] for row in rows]
        return [
            Found(row + self.first, ceiling, len(row) < n)
            for row, ceiling in zip(kept, ceilings.tolist(), strict=True)
        ]


@contextmanager
def one_thread(alone: bool) -> Iterator[None]:
    """If `alone`, FAISS searches in this thread; else it spreads the queries over the cores.

    It would wake its threads even for one query, and wait for them to have nothing to do: where
    all cores are busy, as beside inference, a search of .2 ms then takes 2, and 15 now and then.
    """
    lib = faiss()
    before = lib.omp_get_max_threads()  # of this thread: OpenMP keeps the number for each
    if alone:
        lib.omp_set_num_threads(1)
    try:
        yield
    finally:
        lib.omp_set_num_threads(before)


def view(codes: Codes) -> Any:
    """A FAISS index over codes where they lie; they must outlive it."""
    lib = faiss()
    kinds = lib.ScalarQuantizer
    kind = kinds.QT_fp16 if codes.scale is None else kinds.QT_8bit_direct_signed
    index = lib.IndexScalarQuantizer(codes.values.shape[1], kind, lib.METRIC_INNER_PRODUCT)
    index.is_trained = True
    if len(codes):
        assert codes.values.flags.c_contiguous
        # Nobody in FAISS owns the memory: the empty vector's own (null) owner says so.
        index.codes = lib.MaybeOwnedVectorUInt8.create_view(
            lib.cast_integer_to_void_ptr(codes.values.ctypes.data),
            codes.values.nbytes,
            index.codes.owner,
        )
    index.ntotal = len(codes)
    return index


def selecting(allowed: NDArray[np.bool_] | None, **more: Any) -> Any:
    """Search parameters that let only allowed rows be answered.

    Args:
        allowed: (rows,) bool; None: all.
        more: `efSearch` makes them a graph's parameters.
    """
    lib = faiss()
    kind = lib.SearchParametersHNSW if more else lib.SearchParameters
    if allowed is None:
        return kind(**more) if more else None
    return kind(sel=lib.IDSelectorBitmap(np.packbits(allowed, bitorder="little")), **more)


def for_all(n: int, rows: int) -> bool:
    """Whether `n` is so much of `rows` that all of them are the better answer."""
    return n * EVERYTHING > rows or n >= rows


def everything(part: Any, allowed: NDArray[np.bool_] | None) -> Found:
    """All allowed rows of a stretch."""
    rows = np.arange(len(part)) if allowed is None else np.flatnonzero(allowed)
    return Found(rows + part.first, -np.inf, True)
