"""What robollm's own package metadata asks for. The standard library has no parser for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from itertools import zip_longest

_LINE = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[[^\]]*\])?\s*\(?(?P<ranges>[^;)]*)\)?\s*"
    r"(?:;\s*extra\s*==\s*[\"'](?P<extra>[\w-]+)[\"']\s*)?$"
)
_RANGE = re.compile(r"^(>=|<=|==|!=|<|>)\s*(\d+(?:\.\d+)*)$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package and the versions that will do.

    Attributes:
        name: lower case, with dashes.
        ranges: as written, sorted, e.g. "<2.3,>=1.21"; empty: any.
    """

    name: str
    ranges: str

    def __str__(self) -> str:
        return self.name + self.ranges

    def allows(self, version: str) -> bool:
        """Whether a version is in all ranges; one that has no number is not refused."""
        numbers = re.match(r"\d+(?:\.\d+)*", version)
        if numbers is None:
            return True
        have = _parts(numbers[0])
        tests = (_RANGE.match(r.strip()) for r in self.ranges.split(",") if r.strip())
        return all(_holds(t[1], _compare(have, _parts(t[2]))) for t in tests if t)


def requirements(package: str = "robollm") -> list[Requirement]:
    """What a package needs without any extra; [] if it is not installed as a package."""
    return [r for r, extra in _read(package) if not extra]


def extras(package: str = "robollm") -> dict[str, list[Requirement]]:
    """What its extras need."""
    found: dict[str, list[Requirement]] = {}
    for requirement, extra in _read(package):
        if extra:
            found.setdefault(extra, []).append(requirement)
    return found


def _read(package: str) -> list[tuple[Requirement, str]]:
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    found = [m for line in lines if (m := _LINE.match(line.strip()))]
    return [
        (Requirement(m["name"].lower().replace("_", "-"), m["ranges"].strip()), m["extra"] or "")
        for m in found
    ]


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(p) for p in version.split("."))


def _compare(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """-1, 0, 1; missing parts are 0."""
    for x, y in zip_longest(a, b, fillvalue=0):
        if x != y:
            return 1 if x > y else -1
    return 0


def _holds(sign: str, order: int) -> bool:
    return {
        ">=": order >= 0,
        "<=": order <= 0,
        "==": order == 0,
        "!=": order != 0,
        "<": order < 0,
        ">": order > 0,
    }[sign]
