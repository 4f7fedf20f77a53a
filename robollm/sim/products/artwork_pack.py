"""Where the faces of a package lie in its texture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GAP = 4  # px between two faces, filled with their edges against bleeding


@dataclass(frozen=True, slots=True)
class Rect:
    """A face's place in a texture, px; `side` is the texture's."""

    x: int
    y: int
    width: int
    height: int
    side: int

    def uv(self, right: float, down: float) -> tuple[float, float]:
        """Return texture coordinates of a point given as shares (0 to 1) of the face."""
        inset = 0.5  # a texel's centre, so that neighbours never blend in
        u = self.x + inset + right * (self.width - 2 * inset)
        v = self.y + inset + down * (self.height - 2 * inset)
        return u / self.side, v / self.side


def pack(sizes: Mapping[str, tuple[float, float]], side: int) -> dict[str, Rect]:
    """Place rectangles of sizes (width, height), m, in a square texture, as large as they go."""
    names = sorted(sizes, key=lambda n: (-sizes[n][1], -sizes[n][0], n))
    low, high = 1.0, side / max(max(s) for s in sizes.values())
    best = _shelves(sizes, names, low, side)
    for _ in range(14):
        middle = (low + high) / 2
        rects = _shelves(sizes, names, middle, side)
        if rects:
            low, best = middle, rects
        else:
            high = middle
    return best


def _shelves(
    sizes: Mapping[str, tuple[float, float]], names: list[str], scale: float, side: int
) -> dict[str, Rect]:
    """Place by first fit on shelves of falling height; empty when it doesn't fit."""
    rects: dict[str, Rect] = {}
    shelves: list[list[int]] = []  # y, height, next free x
    bottom = GAP
    for name in names:
        w, h = (max(4, int(v * scale)) for v in sizes[name])
        for shelf in shelves:
            if h <= shelf[1] and shelf[2] + w + GAP <= side:
                break
        else:
            if bottom + h + GAP > side or w + 2 * GAP > side:
                return {}
            shelf = [bottom, h, GAP]
            shelves.append(shelf)
            bottom += h + GAP
        rects[name] = Rect(shelf[2], shelf[0], w, h, side)
        shelf[2] += w + GAP
    return rects
