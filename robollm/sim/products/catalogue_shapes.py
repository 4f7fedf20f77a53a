"""Plausible sizes of packages, kind by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from robollm.sim.world import Kind, Vec3

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Shape:
    """A package's bounding box (as Product.size_m), how full of goods it is, and its details."""

    size_m: Vec3
    fill: float = 1.0
    details: dict[str, Any] = field(default_factory=dict)

    def scaled(self, by: float) -> Shape:
        """Return the same package for another amount."""
        a, b, c = (round(v * by, 4) for v in self.size_m)
        return replace(self, size_m=(a, b, c))


LONGEST: dict[Kind, float] = {
    "box": 0.34,
    "carton": 0.43,
    "book": 0.30,
    "polybag": 0.43,
    "pouch": 0.32,
    "clear_bag": 0.30,
    "blister": 0.27,
    "bottle": 0.32,
    "can": 0.18,
    "tube": 0.20,
}
"""How long a package of a kind may be, m."""
_PACK_MOST_M = (0.36, 0.30, 0.17)  # how long, wide and high a multipack may be, without gaps


def shape_of(kind: Kind, rng: Rng) -> Shape:
    """Draw a package of a kind: length >= width, and height in proportion."""
    shape = _MAKERS[kind](rng)
    a, b, c = (round(v, 4) for v in shape.size_m)
    return replace(shape, size_m=(a, b, c))


def pack_of(shape: Shape, kind: Kind, many: int, rng: Rng) -> tuple[int, str]:
    """Draw how units are packed: the unit's axis along which they lie, and in what."""
    beside = bool(rng.random() < 0.6)
    if kind == "can":
        # Tall ones stand side by side; flat ones do, or are a pile.
        along = 1 if beside or not shape.details["flat"] else 2
    elif kind == "bottle":
        along = 1
    else:  # side by side, or the large faces together
        long = many * shape.size_m[1] > 2.0 * shape.size_m[0]
        along = 1 if beside and not long else 2
    # Round ones need film: a band alone would let them roll out.
    wraps = ("film", "both", "both") if kind in ("can", "bottle") else ("film", "band", "both")
    wrap = wraps[int(rng.integers(3))]
    return along, "both" if kind == "can" and along == 2 else wrap


def pack_room(shape: Shape, along: int, many: int) -> float:
    """Return how much larger units may be so that their pack isn't too large."""
    sides = [v * (many if i == along else 1) for i, v in enumerate(shape.size_m)]
    ordered = sorted(sides, reverse=True)
    return min(most / side for most, side in zip(_PACK_MOST_M, ordered, strict=True))


def _between(rng: Rng, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _box(rng: Rng) -> Shape:
    style = int(rng.integers(6))
    length, width, height = (
        (_between(rng, 0.18, 0.30), _between(rng, 0.6, 0.7), _between(rng, 0.2, 0.3)),  # cereal
        (_between(rng, 0.10, 0.18), _between(rng, 0.6, 0.85), _between(rng, 0.22, 0.4)),  # small
        (_between(rng, 0.14, 0.26), _between(rng, 0.26, 0.4), _between(rng, 0.22, 0.3)),  # long
        (_between(rng, 0.08, 0.15), _between(rng, 0.9, 1.0), _between(rng, 0.75, 0.9)),  # cube
        (_between(rng, 0.18, 0.30), _between(rng, 0.7, 0.95), _between(rng, 0.12, 0.2)),  # game
        (_between(rng, 0.13, 0.20), _between(rng, 0.5, 0.6), _between(rng, 0.3, 0.5)),  # tea
    )[style]
    return Shape((length, length * width, length * min(width, height)), 0.8, {"style": style})


def _carton(rng: Rng) -> Shape:
    length = _between(rng, 0.14, 0.34)
    width = length * _between(rng, 0.6, 0.95)
    return Shape((length, width, width * _between(rng, 0.3, 0.75)), 0.55)


def _book(rng: Rng) -> Shape:
    length = _between(rng, 0.17, 0.28)
    return Shape(
        (length, length * _between(rng, 0.63, 0.8), _between(rng, 0.012, 0.036)),
        1.0,
        {"hard": bool(rng.integers(2))},
    )


def _polybag(rng: Rng) -> Shape:
    length = _between(rng, 0.20, 0.36)
    return Shape(
        (length, length * _between(rng, 0.65, 0.85), _between(rng, 0.02, 0.05)),
        0.65,
        {"stuff": _between(rng, 0.0, 1.0)},
    )


def _pouch(rng: Rng) -> Shape:
    length = _between(rng, 0.14, 0.27)
    width = length * _between(rng, 0.58, 0.75)
    return Shape(
        (length, width, width * _between(rng, 0.22, 0.36)),
        0.6,
        {"pillow": bool(rng.integers(2)), "zip": bool(rng.integers(2))},
    )


def _clear_bag(rng: Rng) -> Shape:
    length = _between(rng, 0.13, 0.26)
    return Shape(
        (length, length * _between(rng, 0.6, 0.8), _between(rng, 0.018, 0.04)),
        0.55,
        {"things": int(rng.integers(5)), "card": bool(rng.integers(2))},
    )


def _blister(rng: Rng) -> Shape:
    length = _between(rng, 0.13, 0.23)
    width = length * _between(rng, 0.55, 0.8)
    return Shape(
        (length, width, _between(rng, 0.018, 0.042)), 0.45, {"thing": int(rng.integers(5))}
    )


def _bottle(rng: Rng) -> Shape:
    length = _between(rng, 0.14, 0.28)
    oval = bool(rng.integers(2))
    width = length * _between(rng, 0.3, 0.42)
    return Shape(
        (length, width, width * (_between(rng, 0.55, 0.7) if oval else 1.0)),
        0.75,
        {
            "oval": oval,
            "cap": _between(rng, 0.12, 0.2),
            "neck": _between(rng, 0.35, 0.6),
            "style": int(rng.integers(4)),
        },
    )


def _can(rng: Rng) -> Shape:
    if rng.integers(3) == 0:  # a flat one stands on its lid: the axis is z
        across = _between(rng, 0.075, 0.11)
        return Shape((across, across, across * _between(rng, 0.35, 0.6)), 0.78, {"flat": True})
    length = _between(rng, 0.09, 0.17)
    across = length * _between(rng, 0.5, 0.72)
    return Shape((length, across, across), 0.78, {"flat": False})


def _tube(rng: Rng) -> Shape:
    length = _between(rng, 0.11, 0.19)
    width = length * _between(rng, 0.3, 0.36)
    return Shape(
        (length, width, width * _between(rng, 0.66, 0.74)), 0.5, {"cap": _between(rng, 0.12, 0.2)}
    )


_MAKERS: dict[Kind, Callable[[Rng], Shape]] = {
    "box": _box,
    "carton": _carton,
    "book": _book,
    "polybag": _polybag,
    "pouch": _pouch,
    "clear_bag": _clear_bag,
    "blister": _blister,
    "bottle": _bottle,
    "can": _can,
    "tube": _tube,
}
