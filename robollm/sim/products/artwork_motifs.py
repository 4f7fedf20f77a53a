"""Little pictures for print: fruit, leaves, gears, cars, splashes, ..."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import ImageDraw

from robollm.sim.products.artwork_pen import Colour, mix

Draw = ImageDraw.ImageDraw
_Points = list[tuple[float, float]]


def motif(
    draw: Draw, name: str, x: float, y: float, r: float, paints: Sequence[Colour], turn: float = 0.0
) -> None:
    """Draw a motif of radius `r` px around (x, y) in up to three colours, the main one first."""
    _MOTIFS[name](_Pad(draw, x, y, r, turn), paints[0], paints[1], paints[-1])


class _Pad:
    """A drawing surface whose unit is the motif's radius, y up."""

    def __init__(self, draw: Draw, x: float, y: float, r: float, turn: float) -> None:
        self.draw, self.x, self.y, self.r = draw, x, y, r
        self.c, self.s = math.cos(turn), math.sin(turn)

    def at(self, x: float, y: float) -> tuple[float, float]:
        a, b = x * self.c - y * self.s, x * self.s + y * self.c
        return (self.x + a * self.r, self.y - b * self.r)

    def poly(self, points: _Points, paint: Colour) -> None:
        self.draw.polygon([self.at(*p) for p in points], fill=paint)

    def disc(self, x: float, y: float, r: float, paint: Colour, tall: float = 1.0) -> None:
        n = 28
        self.poly([(x + r * math.cos(2 * math.pi * i / n), y + r * tall * math.sin(
            2 * math.pi * i / n)) for i in range(n)], paint)  # fmt: skip

    def line(self, points: _Points, paint: Colour, width: float) -> None:
        self.draw.line(
            [self.at(*p) for p in points], paint, max(1, round(width * self.r)), joint="curve"
        )

    def star(self, n: int, inner: float, paint: Colour, r: float = 1.0, tilt: float = 0.0) -> None:
        points = []
        for i in range(2 * n):
            a = math.pi * i / n + math.pi / 2 + tilt
            d = r if i % 2 == 0 else r * inner
            points.append((d * math.cos(a), d * math.sin(a)))
        self.poly(points, paint)

    def leaf(self, x: float, y: float, angle: float, long: float, paint: Colour, vein: Colour,
             wide: float = 0.36) -> None:  # fmt: skip
        c, s = math.cos(angle), math.sin(angle)
        points = []
        for i in range(21):
            t = i / 10 if i <= 10 else (20 - i) / 10
            off = wide * long * math.sin(math.pi * t**0.8) * (1 if i <= 10 else -1)
            points.append((x + t * long * c - off * s, y + t * long * s + off * c))
        self.poly(points, paint)
        self.line([(x, y), (x + 0.85 * long * c, y + 0.85 * long * s)], vein, 0.04)


def _fruit(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(-0.28, -0.15, 0.62, a, 1.1)
    p.disc(0.28, -0.15, 0.62, a, 1.1)
    p.disc(-0.4, 0.15, 0.16, mix(a, (255, 255, 255), 0.5), 1.5)
    p.line([(0, 0.35), (0.08, 0.85)], c, 0.1)
    p.leaf(0.06, 0.6, 0.5, 0.6, b, c)


def _citrus(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(0, 0, 0.95, a)
    p.disc(0, 0, 0.8, mix(a, (255, 255, 255), 0.8))
    for i in range(8):
        t = math.pi * i / 4
        points = [(0.1 * math.cos(t), 0.1 * math.sin(t))]
        points += [
            (0.72 * math.cos(t + d), 0.72 * math.sin(t + d)) for d in (-0.32, -0.16, 0, 0.16, 0.32)
        ]
        p.poly(points, mix(a, (255, 255, 255), 0.2))


def _berry(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-0.75, 0.3), (-0.55, 0.6), (0, 0.68), (0.55, 0.6), (0.75, 0.3), (0.5, -0.4),
            (0, -0.95), (-0.5, -0.4)], a)  # fmt: skip
    for x, y in ((-0.4, 0.3), (0, 0.35), (0.4, 0.3), (-0.22, -0.05), (0.22, -0.05), (0, -0.45)):
        p.disc(x, y, 0.07, mix(a, (255, 255, 255), 0.65), 1.4)
    for t in (0.4, 1.1, 1.57, 2.0, 2.7):
        p.leaf(0, 0.5, t, 0.5, b, c)


def _cherry(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.line([(-0.4, -0.3), (-0.1, 0.4), (0.25, 0.85), (0.35, 0.4), (0.45, -0.2)], c, 0.08)
    for x, y in ((-0.42, -0.45), (0.45, -0.4)):
        p.disc(x, y, 0.42, a)
        p.disc(x - 0.14, y + 0.14, 0.1, mix(a, (255, 255, 255), 0.7))
    p.leaf(0.25, 0.8, -0.3, 0.7, b, c)


def _leaf(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.leaf(0, -0.9, 1.57, 1.85, a, mix(a, (255, 255, 255), 0.5), 0.3)
    p.leaf(0, -0.8, 0.7, 1.1, b, c, 0.3)
    p.leaf(0, -0.8, 2.4, 1.1, b, c, 0.3)


def _waves(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    for row, paint in ((0.5, b), (0.0, a), (-0.5, c)):
        p.line([(-1 + i / 16, row + 0.16 * math.sin(i * 0.6)) for i in range(33)], paint, 0.2)


def _gear(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    points = []
    for i in range(48):
        r = 0.95 if (i // 3) % 2 else 0.72
        points.append((r * math.cos(math.pi * i / 24), r * math.sin(math.pi * i / 24)))
    p.poly(points, a)
    p.disc(0, 0, 0.42, b)
    p.disc(0, 0, 0.2, c)


def _drop(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    points: _Points = [(0, 1)]
    points += [(0.62 * math.sin(t / 8 * math.pi * 1.5 + 0.8), -0.3 + 0.62 * math.cos(
        t / 8 * math.pi * 1.5 + 0.8)) for t in range(9)]  # fmt: skip
    p.poly(points, a)
    p.disc(-0.2, -0.35, 0.16, mix(a, (255, 255, 255), 0.7), 1.6)


def _star(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.star(5, 0.45, a)
    p.star(5, 0.45, b, 0.5)


def _cup(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(0.62, -0.2, 0.32, a)
    p.disc(0.62, -0.2, 0.18, mix(a, (255, 255, 255), 0.8))
    p.poly([(-0.7, 0.2), (0.65, 0.2), (0.5, -0.7), (0.25, -0.85), (-0.3, -0.85), (-0.55, -0.7)], a)
    p.disc(-0.02, 0.2, 0.67, b, 0.22)
    for x in (-0.35, 0.0, 0.35):
        p.line([(x + 0.09 * math.sin(i), 0.42 + 0.07 * i) for i in range(8)], c, 0.07)


def _paw(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(0, -0.35, 0.52, a, 0.85)
    for x, y in ((-0.62, 0.15), (-0.23, 0.55), (0.23, 0.55), (0.62, 0.15)):
        p.disc(x, y, 0.22, a, 1.3)


def _sun(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.star(14, 0.68, b)
    p.disc(0, 0, 0.6, a)


def _mountain(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(0.45, 0.5, 0.26, c)
    p.poly([(-1, -0.7), (-0.3, 0.75), (0.4, -0.7)], a)
    p.poly([(-0.2, -0.7), (0.45, 0.3), (1, -0.7)], mix(a, b, 0.45))
    p.poly([(-0.53, 0.28), (-0.3, 0.75), (-0.07, 0.28), (-0.2, 0.38), (-0.3, 0.2), (-0.4, 0.38)],
           (246, 246, 244))  # fmt: skip


def _bolt(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(0.15, 1), (-0.6, -0.1), (-0.05, -0.1), (-0.2, -1), (0.6, 0.2), (0.05, 0.2)], a)


def _flower(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    for i in range(7):
        t = 2 * math.pi * i / 7
        p.leaf(0.1 * math.cos(t), 0.1 * math.sin(t), t, 0.85, a, mix(a, c, 0.4), 0.3)
    p.disc(0, 0, 0.24, b)


def _fish(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(0.5, 0), (1, 0.45), (0.88, 0), (1, -0.45)], b)
    p.leaf(-0.95, 0, 0, 1.65, a, mix(a, b, 0.5), 0.28)
    p.disc(-0.6, 0.1, 0.08, (250, 250, 250))
    p.disc(-0.6, 0.1, 0.04, (20, 20, 20))


def _car(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-0.55, 0.05), (-0.35, 0.5), (0.3, 0.5), (0.6, 0.05)], a)
    p.poly([(-0.4, 0.08), (-0.27, 0.38), (-0.05, 0.38), (-0.05, 0.08)], (228, 236, 240))
    p.poly([(0.05, 0.08), (0.05, 0.38), (0.24, 0.38), (0.42, 0.08)], (228, 236, 240))
    p.poly([(-1, 0.05), (0.8, 0.1), (1, -0.05), (1, -0.4), (-1, -0.4)], a)
    for x in (-0.55, 0.55):
        p.disc(x, -0.4, 0.25, (40, 40, 42))
        p.disc(x, -0.4, 0.11, b)


def _hexagons(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    for i, (x, y) in enumerate(((0, 0), (0.75, 0.43), (0, 0.87), (-0.75, 0.43), (-0.75, -0.43),
                                (0, -0.87), (0.75, -0.43))):  # fmt: skip
        paint = (a, b, a, c, a, b, mix(a, b, 0.5))[i]
        angles = [k * math.pi / 3 for k in range(6)]
        p.poly([(0.78 * x + 0.36 * math.cos(t), 0.78 * y + 0.36 * math.sin(t)) for t in angles],
               paint)  # fmt: skip


def _splash(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        r = 0.6 + 0.25 * math.sin(5 * t) + 0.13 * math.sin(8 * t + 1)
        points.append((r * math.cos(t), r * math.sin(t)))
    p.poly(points, a)
    for x, y, r in ((0.85, 0.5, 0.1), (-0.8, 0.6, 0.13), (0.7, -0.75, 0.12), (-0.9, -0.3, 0.08)):
        p.disc(x, y, r, a)
    p.disc(-0.1, 0.1, 0.25, mix(a, (255, 255, 255), 0.55), 0.7)


def _cookie(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(0, 0, 0.92, (166, 112, 62))
    p.disc(0.03, 0.04, 0.84, (198, 146, 90))
    for i in range(11):
        t, r = 2.4 * i, 0.2 + 0.055 * i
        p.disc(r * math.cos(t), r * math.sin(t), 0.09, (78, 48, 30))


def _wheat(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.line([(0, -1), (0, 0.5)], c, 0.07)
    for i in range(5):
        y = -0.4 + 0.24 * i
        p.leaf(0, y, 0.9, 0.5, a, c)
        p.leaf(0, y, math.pi - 0.9, 0.5, a, c)
    p.leaf(0, 0.5, 1.57, 0.5, a, c)


def _shirt(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-0.3, 0.8), (-0.95, 0.4), (-0.7, -0.05), (-0.5, 0.1), (-0.5, -0.85), (0.5, -0.85),
            (0.5, 0.1), (0.7, -0.05), (0.95, 0.4), (0.3, 0.8), (0.12, 0.6), (-0.12, 0.6)],
           a)  # fmt: skip
    p.poly([(-0.5, -0.2), (0.5, -0.2), (0.5, -0.4), (-0.5, -0.4)], b)


def _bulb(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.disc(0, 0.25, 0.62, a)
    p.poly([(-0.4, -0.15), (0.4, -0.15), (0.24, -0.55), (-0.24, -0.55)], a)
    p.poly([(-0.24, -0.55), (0.24, -0.55), (0.2, -0.95), (-0.2, -0.95)], c)
    p.line([(-0.2, 0.1), (-0.08, 0.35), (0.08, 0.1), (0.2, 0.35)], b, 0.07)


def _heart(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        points.append((math.sin(t) ** 3, (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(
            3 * t) - math.cos(4 * t)) / 16))  # fmt: skip
    p.poly(points, a)


def _tree(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-0.12, -0.95), (0.12, -0.95), (0.12, -0.5), (-0.12, -0.5)], c)
    for y, w in ((-0.6, 0.72), (-0.15, 0.58), (0.3, 0.42)):
        p.poly([(-w, y), (w, y), (0, y + 0.7)], a)


def _bird(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-1, -0.1), (-0.3, 0.25), (-0.45, -0.35)], b)
    p.leaf(-0.7, -0.3, 0.25, 1.4, a, a, 0.34)
    p.disc(0.55, 0.35, 0.3, a)
    p.poly([(0.8, 0.45), (1.05, 0.3), (0.8, 0.22)], c)
    p.leaf(-0.3, 0.05, -0.5, 0.7, b, c, 0.3)
    p.disc(0.62, 0.42, 0.06, (20, 20, 20))


def _bone(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.line([(-0.6, -0.3), (0.6, 0.3)], a, 0.3)
    for x, y in ((-0.8, -0.2), (-0.62, -0.5), (0.8, 0.2), (0.62, 0.5)):
        p.disc(x, y, 0.23, a)


def _house(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-0.7, 0.1), (0.7, 0.1), (0.7, -0.8), (-0.7, -0.8)], a)
    p.poly([(-0.95, 0.05), (0, 0.85), (0.95, 0.05)], b)
    p.poly([(-0.18, -0.8), (0.18, -0.8), (0.18, -0.2), (-0.18, -0.2)], c)


def _rocket(p: _Pad, a: Colour, b: Colour, c: Colour) -> None:
    p.poly([(-0.3, -0.4), (-0.7, -0.8), (-0.28, -0.75), (0, -1), (0.28, -0.75), (0.7, -0.8),
            (0.3, -0.4)], c)  # fmt: skip
    p.leaf(0, -0.75, 1.57, 1.75, a, a, 0.24)
    p.disc(0, 0.2, 0.2, b)


_MOTIFS: dict[str, Callable[[_Pad, Colour, Colour, Colour], None]] = {
    "fruit": _fruit, "citrus": _citrus, "berry": _berry, "cherry": _cherry, "leaf": _leaf,
    "waves": _waves, "gear": _gear, "drop": _drop, "star": _star, "cup": _cup, "paw": _paw,
    "sun": _sun, "mountain": _mountain, "bolt": _bolt, "flower": _flower, "fish": _fish,
    "car": _car, "hexagons": _hexagons, "splash": _splash, "cookie": _cookie, "wheat": _wheat,
    "shirt": _shirt, "bulb": _bulb, "heart": _heart, "tree": _tree, "bird": _bird, "bone": _bone,
    "house": _house, "rocket": _rocket,
}  # fmt: skip
MOTIFS = tuple(_MOTIFS)
