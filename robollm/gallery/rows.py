"""The rows of one commit, in memory: what a search stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.records import MadeWith
from robollm.gallery.tables import Total

Records = Mapping[tuple[str, str], dict[str, Any]]
"""(kind, name) -> record."""


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What commits after some `Rows` changed.

    Attributes:
        generation: the newest commit.
        references: (A,) int64 ids of new living references, ascending.
        products: (A,) int64 product number of each.
        slots: (A,) int64 place of each in the vector file, ascending.
        crcs: (A,) int64 CRC-32 of their rows.
        died: (R,) int64 ids of references of those rows that are no longer alive, ascending.
        numbers: product numbers of the new references, ascending, each once.
        ids: product id of each of `numbers`.
        containers: new or changed containers.
        containers_removed: containers that are gone.
        records: all records.
        vectors: (slots, dim) float16, the whole file as it is committed now.
        living: proves that nothing is missing.
    """

    generation: int
    references: NDArray[np.int64]
    products: NDArray[np.int64]
    slots: NDArray[np.int64]
    crcs: NDArray[np.int64]
    died: NDArray[np.int64]
    numbers: NDArray[np.int64]
    ids: list[str]
    containers: Mapping[str, frozenset[str]]
    containers_removed: tuple[str, ...]
    records: Records
    vectors: NDArray[np.float16]
    living: Total


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The living references of one commit.

    Attributes:
        generation: the commit.
        references: (R,) int64 reference ids, ascending.
        products: (R,) int64 product number of each.
        slots: (R,) int64 place of each in `vectors`, ascending.
        numbers: (P,) int64, numbers of the products that have a reference, ascending. A number is
            never used again, not even for a product of the same id.
        ids: product id of each of `numbers`.
        containers: container id -> product ids, with or without references.
        records: calibration, tuning and whatever else is kept.
        vectors: (slots, dim) float16, read-only, mapped; rows that no slot names are dead.
        file: name of the vector file; another one after `compact`.
        made_with: the bundle.
        living: proves that nothing is missing.
        crcs: (R,) int64 CRC-32 of the rows.
        identity: of the database file, which changes when the whole folder is replaced.
    """

    generation: int
    references: NDArray[np.int64]
    products: NDArray[np.int64]
    slots: NDArray[np.int64]
    numbers: NDArray[np.int64]
    ids: tuple[str, ...]
    containers: Mapping[str, frozenset[str]]
    records: Records
    vectors: NDArray[np.float16]
    file: str
    made_with: MadeWith
    living: Total
    crcs: NDArray[np.int64]
    identity: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def with_changes(self, changes: Changes) -> Rows:
        """The rows after the changes; equal to what a new load answers."""
        keep = ~np.isin(self.references, changes.died, assume_unique=True)

        def joined(old: NDArray[np.int64], new: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.concatenate([old[keep], new])

        products = joined(self.products, changes.products)
        numbers = np.unique(products)
        # Arrays of objects, no dictionary: a loop over 190,000 names would hold up searches.
        known, first = np.unique(np.concatenate([changes.numbers, self.numbers]), return_index=True)
        ids = np.concatenate([np.array(changes.ids, object), np.array(self.ids, object)])[first]
        gone = set(changes.containers_removed)
        containers = {c: p for c, p in self.containers.items() if c not in gone}
        containers.update(changes.containers)
        return replace(
            self,
            generation=changes.generation,
            references=joined(self.references, changes.references),
            products=products,
            slots=joined(self.slots, changes.slots),
            numbers=numbers,
            ids=tuple(ids[np.searchsorted(known, numbers)].tolist()),
            containers=containers,
            records=changes.records,
            vectors=changes.vectors,
            living=changes.living,
            crcs=joined(self.crcs, changes.crcs),
        )
