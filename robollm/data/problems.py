"""What is wrong with a dataset: named with file and place, counted, reported; never fatal alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from robollm.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that can't be used.

    Attributes:
        kind: a short stable key, counted: `missing_image`, `corrupt_image`, `outside_box`, ... What
            a kind takes from an evaluation is in `robollm.eval.losses`.
        where: file, and line or id within it.
        what: what was seen, and what was wanted.
        action: what was done with it.
    """

    kind: str
    where: str
    what: str
    action: str = "skipped"

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.kind}, {self.action})"


class Problems:
    """Collects problems; all are counted, the first of each kind are kept in full.

    Args:
        keep: how many of a kind are kept.
    """

    def __init__(self, keep: int = 20) -> None:
        self._keep = keep
        self._count: Counter[str] = Counter()
        self._first: dict[str, list[Problem]] = {}

    def note(
        self, kind: str, where: object, what: str, action: str = "skipped", *, times: int = 1
    ) -> Problem:
        """Count one problem, that often, and return it."""
        problem = Problem(kind, str(where), what, action)
        self.add(problem, times)
        return problem

    def add(self, problem: Problem, times: int = 1) -> None:
        """Count a problem that somebody else found."""
        self._count[problem.kind] += times
        kept = self._first.setdefault(problem.kind, [])
        if len(kept) < self._keep:
            kept.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Count several."""
        for one in problems:
            self.add(one)

    def merge(self, other: Problems) -> None:
        """Add all that another one counted."""
        for kind, count in other._count.items():
            self._count[kind] += count
            kept = self._first.setdefault(kind, [])
            kept += other._first[kind][: self._keep - len(kept)]

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> how many, by kind."""
        return dict(sorted(self._count.items()))

    def __len__(self) -> int:
        return sum(self._count.values())

    def lines(self) -> list[str]:
        """What to show: the kept problems, then how many more there are of each kind."""
        out = []
        for kind, kept in sorted(self._first.items()):
            out += [str(p) for p in kept]
            if self._count[kind] > len(kept):
                out.append(f"and {self._count[kind] - len(kept)} more of {kind}")
        return out

    def refuse_if_empty(self, left: int, what: str, fix: str) -> None:
        """Raise when nothing usable is left.

        Raises:
            ConfigError: if `left` is 0; names the first problem.
        """
        if left:
            return
        seen = f"; {len(self)} problems, first: {self.lines()[0]}" if len(self) else ""
        raise ConfigError(f"{what}: nothing usable{seen}", fix=fix)
