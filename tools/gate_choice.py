"""Which samples the gate takes: seeded, evenly over groups, and no two alike where it can be."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence


def shuffled(ids: Iterable[str], seed: int) -> list[str]:
    """In an order that depends on the ids and the seed alone."""
    return sorted(ids, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())


def dealt(groups: Mapping[str, Sequence[str]], wanted: Mapping[str, int]) -> list[str]:
    """Take so many of each group; what a group lacks is taken from the others, in turn."""
    chosen = [one for name, ids in groups.items() for one in ids[: wanted.get(name, 0)]]
    rest = [list(ids[wanted.get(name, 0) :]) for name, ids in groups.items()]
    total = min(sum(wanted.values()), sum(map(len, groups.values())))
    while len(chosen) < total:
        for ids in rest:
            if ids and len(chosen) < total:
                chosen.append(ids.pop(0))
    return chosen


def distinct_first(ids: Sequence[str], of: Callable[[str], str]) -> list[str]:
    """The first of every kind, then the second of every kind ...: few are alike at any length."""
    seen: Counter[str] = Counter()
    rank = {}
    for one in ids:
        rank[one] = seen[of(one)]
        seen[of(one)] += 1
    return sorted(ids, key=lambda one: rank[one])


def shares(total: int, parts: Mapping[str, int]) -> dict[str, int]:
    """A number dealt out by parts; what rounding leaves goes to the first."""
    out = {name: total * part // sum(parts.values()) for name, part in parts.items()}
    first = next(iter(out))
    return out | {first: out[first] + total - sum(out.values())}
