"""Product ids as small numbers that snapshots share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray


class Names:
    """Ids that were ever seen, each with its number. It only grows, so snapshots may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> str:
        return self._ids[number]

    def add(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """The numbers of ids; new ones get the next numbers."""
        with self._lock:
            numbers = []
            for product in ids:
                number = self._numbers.get(product)
                if number is None:
                    # The list first: whoever finds a number must find its id.
                    number = len(self._ids)
                    self._ids.append(product)
                    self._numbers[product] = number
                numbers.append(number)
        return np.array(numbers, np.int32)

    def find(self, ids: Iterable[str], below: int) -> NDArray[np.int32]:
        """The numbers < `below` of those ids that have one, in their order."""
        known = (self._numbers.get(product, below) for product in ids)
        return np.array([n for n in known if n < below], np.int32)

    def number(self, product: object) -> int | None:
        """The number of an id, or None."""
        return self._numbers.get(product) if isinstance(product, str) else None


class LiveNames(AbstractSet[str]):
    """The ids that are alive in one snapshot: a set that is right for ever.

    Args:
        names: all ids.
        live: (N,) bool, which of the first N are alive.
    """

    def __init__(self, names: Names, live: NDArray[np.bool_]) -> None:
        self._names, self._live = names, live
        self._count = int(np.count_nonzero(live))

    def __contains__(self, product: object) -> bool:
        number = self._names.number(product)
        return number is not None and number < len(self._live) and bool(self._live[number])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (self._names[n] for n in np.flatnonzero(self._live).tolist())

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        return frozenset(it)
