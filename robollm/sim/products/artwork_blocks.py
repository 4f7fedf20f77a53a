"""Building blocks of print that every face uses: wordmark, name, flavour, badge, hero picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robollm.sim.products.artwork_motifs import motif
from robollm.sim.products.artwork_pen import Box, Colour, Pen, colour, contrast, mix

Look = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """Colours of one product's print."""

    ground: Colour
    second: Colour
    accent: Colour
    ink: Colour
    light: Colour
    spot: Colour  # the variant's own

    @staticmethod
    def of(look: Look) -> Style:
        """Return the colours of a look."""
        ground, second, accent, ink, light = (colour(c) for c in look["palette"])
        return Style(ground, second, accent, ink, light, colour(look["ink"]))

    def on(self, ground: Colour) -> Colour:
        """Return the ink that can be read on a ground."""
        return contrast(ground, self.ink, self.light)


def inner(box: Box, share: float) -> Box:
    """Return a box shrunk by a share of its smaller side."""
    d = share * min(box[2] - box[0], box[3] - box[1])
    return (box[0] + d, box[1] + d, box[2] - d, box[3] - d)


def split_x(box: Box, at: float) -> tuple[Box, Box]:
    """Cut a box into a left and a right one."""
    x = box[0] + at * (box[2] - box[0])
    return (box[0], box[1], x, box[3]), (x, box[1], box[2], box[3])


def split_y(box: Box, at: float) -> tuple[Box, Box]:
    """Cut a box into an upper and a lower one."""
    y = box[1] + at * (box[3] - box[1])
    return (box[0], box[1], box[2], y), (box[0], y, box[2], box[3])


def wordmark(pen: Pen, box: Box, look: Look, ink: Colour, accent: Colour) -> None:
    """Print the brand: a simple mark, and the name in the brand's face."""
    name = look["brand"].upper() if look["upper"] else look["brand"]
    height = min(box[3] - box[1], 0.24 * (box[2] - box[0]))
    if look["mark"] != "none":
        middle = (box[1] + box[3]) / 2
        _mark(pen, look["mark"], box[0] + height / 2, middle, 0.42 * height, accent, ink)
        box = (box[0] + 1.15 * height, box[1], box[2], box[3])
    pen.text(
        box, name, look["logo_face"], ink, align="left" if look["mark"] != "none" else "centre"
    )


def _mark(pen: Pen, kind: str, x: float, y: float, r: float, a: Colour, b: Colour) -> None:
    draw = pen.draw
    whole = (x - r, y - r, x + r, y + r)
    if kind == "disc":
        draw.ellipse(whole, fill=a)
    elif kind == "ring":
        draw.ellipse(whole, outline=a, width=max(1, round(0.4 * r)))
    elif kind == "square":
        draw.rectangle(whole, fill=a)
        draw.rectangle((x, y, x + r, y + r), fill=b)
    elif kind == "triangle":
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=a)
    elif kind == "bars":
        for i in range(3):
            left = x - r + i * 0.75 * r
            draw.rectangle((left, y - r + i * 0.5 * r, left + 0.45 * r, y + r), fill=a)
    elif kind == "diamond":
        draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=a)
    elif kind == "arc":
        draw.pieslice(whole, 200, 20, fill=a)
        draw.pieslice((x - r, y - 0.6 * r, x + r, y + 1.4 * r), 200, 20, fill=b)
    else:
        for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
            cx, cy, s = x + dx * r, y + dy * r, 0.4 * r
            draw.ellipse((cx - s, cy - s, cx + s, cy + s), fill=a)


def name(
    pen: Pen, box: Box, look: Look, ink: Colour, align: Literal["left", "centre"] = "centre"
) -> None:
    """Print the product's name, on two lines where that makes it larger."""
    words = look["name"].split()
    lines = [look["name"]]
    wide = (box[2] - box[0]) / max(1.0, box[3] - box[1])
    if len(words) > 1 and wide < 0.42 * len(look["name"]):
        half = (len(words) + 1) // 2
        lines = [" ".join(words[:half]), " ".join(words[half:])]
    pen.lines(box, lines, look["face"], ink, align=align)


def variant(pen: Pen, box: Box, look: Look, style: Style, *, chip: bool) -> None:
    """Print what tells this product from its siblings: a pictogram and a word."""
    x1, y1, x2, y2 = box
    h = min(y2 - y1, (x2 - x1) / 3)  # there is always room for the word
    y1, y2 = (y1 + y2 - h) / 2, (y1 + y2 + h) / 2
    box = (x1, y1, x2, y2)
    ink = style.on(style.spot)
    if chip:
        pen.fill(box, style.spot, h / 2 if look["art"] % 2 else 0.1 * h)
    else:  # on the ground colour, if it can be read there
        far = abs(sum(style.spot) - sum(style.ground)) > 190
        ink = style.spot if far else style.on(style.ground)
    badge = 0.42 * h
    x = x1 + 0.62 * h
    pen.draw.ellipse((x - badge, (y1 + y2) / 2 - badge, x + badge, (y1 + y2) / 2 + badge),
                     fill=(250, 249, 244))  # fmt: skip
    paints = (style.spot, mix(style.spot, (90, 150, 70), 0.6), mix(style.spot, (0, 0, 0), 0.4))
    motif(pen.draw, look["sign"], x, (y1 + y2) / 2, 0.8 * badge, paints)
    pen.text(
        (x1 + 1.2 * h, y1 + 0.1 * h, x2 - 0.25 * h, y2 - 0.1 * h), look["variant"], "bold", ink
    )


def badge(pen: Pen, x: float, y: float, r: float, text: str, paint: Colour, ink: Colour) -> None:
    """Print a claim in a burst."""
    motif(pen.draw, "sun", x, y, r, (paint, paint, paint))
    words = text.split()
    half = (len(words) + 1) // 2
    lines = [" ".join(words[:half]), " ".join(words[half:])] if len(words) > 1 else words
    pen.lines(
        (x - 0.55 * r, y - 0.36 * r, x + 0.55 * r, y + 0.36 * r), lines, "condensed_bold", ink
    )


def hero(pen: Pen, box: Box, look: Look, style: Style, ground: Colour) -> None:
    """Print the picture that sells: the motif alone, in threes, in a row, scattered, on a plate."""
    rng = np.random.default_rng([3, look["art"]])
    x1, y1, x2, y2 = box
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    r = 0.5 * min(x2 - x1, y2 - y1)
    light = sum(ground) > 390
    paints = [style.second, style.accent, mix(style.second, style.ink, 0.5)]
    if sum(abs(a - b) for a, b in zip(style.second, ground, strict=True)) < 120:
        paints[0] = style.ground if style.ground != ground else style.accent
    what, draw = look["motif"], pen.draw
    kind = int(rng.integers(6))
    if kind == 0:
        motif(draw, what, x, y, 0.95 * r, paints, float(rng.uniform(-0.2, 0.2)))
    elif kind == 1:
        for dx, dy, s in ((-0.45, 0.3, 0.5), (0.5, 0.25, 0.5), (0.0, -0.25, 0.65)):
            motif(draw, what, x + dx * r, y + dy * r, s * r, paints, float(rng.uniform(-0.5, 0.5)))
    elif kind == 2:
        plate = mix(ground, (255, 255, 255) if not light else style.accent, 0.35)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=plate)
        motif(draw, what, x, y, 0.7 * r, paints, float(rng.uniform(-0.2, 0.2)))
    elif kind == 3:
        n = max(2, round((x2 - x1) / (1.3 * r)))
        for i in range(n):
            motif(draw, what, x1 + (i + 0.5) * (x2 - x1) / n, y + (i % 2 - 0.5) * 0.3 * r,
                  min(0.6 * r, 0.5 * (x2 - x1) / n), paints)  # fmt: skip
    elif kind == 4:
        for i in range(9):
            s = float(rng.uniform(0.16, 0.36)) * r
            at = (float(rng.uniform(x1 + s, x2 - s)), float(rng.uniform(y1 + s, y2 - s)))
            turned = float(rng.uniform(-1, 1))
            motif(draw, what, *at, s, [*paints[i % 2 :], paints[0]], turned)
    else:
        motif(draw, "splash", x, y, r, [mix(ground, style.accent, 0.5)] * 3)
        motif(draw, what, x, y, 0.62 * r, paints, float(rng.uniform(-0.2, 0.2)))


def pattern(pen: Pen, box: Box, what: str, paint: Colour, step: float) -> None:
    """Cover a box with small motifs of one colour."""
    y, row = box[1] + step / 2, 0
    while y < box[3]:
        x = box[0] + step * (0.5 if row % 2 else 0.0)
        while x < box[2] + step / 2:
            motif(pen.draw, what, x, y, 0.32 * step, (paint, paint, paint), 0.3)
            x += step
        y += 0.85 * step
        row += 1


def scene(pen: Pen, box: Box, look: Look, style: Style) -> None:
    """Print a landscape of hills under a sky."""
    rng = np.random.default_rng([4, look["art"]])
    x1, y1, x2, y2 = box
    sky = mix(style.light, style.accent, 0.25)
    pen.gradient(box, mix(sky, style.second, 0.35), sky)
    h = y2 - y1
    for i, share in enumerate((0.35, 0.55, 0.75)):
        paint = mix(style.second, style.ink, 0.1 + 0.25 * i)
        a, b, c = (float(v) for v in rng.uniform(0, 6.3, 3))
        points = [(x1, y2), (x2, y2)]
        for k in range(24, -1, -1):
            t = k / 24
            bump = 0.1 * np.sin(6 * t + a) + 0.05 * np.sin(11 * t + b) + 0.03 * np.sin(19 * t + c)
            points.append((x1 + t * (x2 - x1), y1 + h * (share + float(bump))))
        pen.draw.polygon(points, fill=paint)
