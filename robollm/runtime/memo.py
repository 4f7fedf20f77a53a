"""What was computed lately, by key, and what somebody is computing right now."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")


class _Pending(Generic[V]):
    """A value that a thread computes: `values` stays empty if that fails."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.values: list[V] = []


class Memo(Generic[V]):
    """Remembers the last values, and lets one thread compute what several ask for.

    No lock is held while a value is computed. What failed is not remembered: who waited for it
    tries itself. Two threads that want each other's keys don't lock up, because everybody computes
    what it took on before it waits.

    Args:
        capacity: values kept; those that were asked for last stay.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, V] = OrderedDict()
        self._busy: dict[Hashable, _Pending[V]] = {}
        self.hits = 0

    def __len__(self) -> int:
        """Values that are kept."""
        return len(self._known)

    def get(self, keys: Sequence[Hashable], compute: Callable[[list[int]], Sequence[V]]) -> list[V]:
        """The values of `keys`, computed where they are not known.

        Args:
            keys: what is asked for; the same key may come twice.
            compute: takes indices into `keys`, one per key to compute, and gives their values.

        Raises:
            Exception: what `compute` raises; nothing of that call is remembered.
        """
        values: dict[Hashable, V] = {}
        while len(values) < len(set(keys)):
            mine, others = self._claim(keys, values)
            if mine:
                values.update(self._compute(keys, mine, compute))
            for key, pending in others.items():
                pending.ended.wait()
                values.update((key, v) for v in pending.values)
            self._count(sum(len(p.values) for p in others.values()))
        return [values[k] for k in keys]

    def _claim(
        self, keys: Sequence[Hashable], values: dict[Hashable, V]
    ) -> tuple[list[int], dict[Hashable, _Pending[V]]]:
        """Fill in what is known; the indices that are ours now, and what others compute."""
        mine: dict[Hashable, int] = {}
        others: dict[Hashable, _Pending[V]] = {}
        with self._lock:
            for i, key in enumerate(keys):
                if key in values or key in mine:
                    continue
                if key in self._known:
                    self._known.move_to_end(key)
                    values[key] = self._known[key]
                    self.hits += 1
                elif key in self._busy:
                    others[key] = self._busy[key]
                else:
                    self._busy[key] = _Pending()
                    mine[key] = i
        return list(mine.values()), others

    def _compute(
        self,
        keys: Sequence[Hashable],
        mine: list[int],
        compute: Callable[[list[int]], Sequence[V]],
    ) -> dict[Hashable, V]:
        new: dict[Hashable, V] = {}
        try:
            new = {keys[i]: v for i, v in zip(mine, compute(mine), strict=True)}
        finally:  # whatever happened: somebody may wait
            with self._lock:
                for i in mine:
                    pending = self._busy.pop(keys[i])
                    pending.values.extend([new[keys[i]]] if keys[i] in new else [])
                    pending.ended.set()
                self._known.update(new)
                while len(self._known) > self._capacity:
                    self._known.popitem(last=False)
        return new

    def _count(self, hits: int) -> None:
        with self._lock:
            self.hits += hits
