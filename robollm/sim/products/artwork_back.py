"""The other faces of a package: back, sides, ends, shipping label, cover, spine, tape."""

from __future__ import annotations

import numpy as np

from robollm.sim.products.artwork_blocks import (
    Look,
    Style,
    inner,
    name,
    pattern,
    split_x,
    split_y,
    variant,
    wordmark,
)
from robollm.sim.products.artwork_motifs import motif
from robollm.sim.products.artwork_pen import Box, Colour, Pen, mix
from robollm.sim.products.catalogue_words import FOOD

_PRINT = (
    "Ingredients: wheat, sugar, sunflower oil, salt, raising agent, natural flavouring. Store in "
    "a cool dry place. Best before: see top. Made for the distributor named below. May contain "
    "traces of nuts. Keep out of reach of children. Please recycle. Batch and date on the seam."
).split()

_NOTES = (
    "Read the notes before use and keep them. Made for the distributor named below. Keep out of "
    "reach of children. Do not use when damaged. Store dry, away from heat. Colours and details "
    "may differ from the picture. Dispose of the packaging with paper or plastics. All rights "
    "reserved. Questions? Write to us, we answer within two days."
).split()
_FACTS = ("Model", "Batch", "Size", "Weight", "Class", "Code")


def back(pen: Pen, look: Look) -> None:
    """Print a back: small print, a table, a bar code, pictograms."""
    s = Style.of(look)
    whole = (0.0, 0.0, float(pen.width), float(pen.height))
    pen.fill(whole, s.ground)
    ink = s.on(s.ground)
    top, rest = split_y(whole, 0.17)
    pen.fill(top, s.second)
    wordmark(pen, inner(split_x(top, 0.5)[0], 0.2), look, s.on(s.second), s.accent)
    pen.text(inner(split_x(top, 0.5)[1], 0.22), look["name"], look["face"], s.on(s.second))
    body, foot = split_y(inner(rest, 0.04), 0.62)
    left, right = split_x(body, 1.0 if look["line"] == "book" else 0.56)
    head, text = split_y(left, 0.2)
    variant(pen, inner(head, 0.12), look, s, chip=False)
    words = _PRINT if look["line"] in FOOD else _NOTES
    pen.paragraph(inner(text, 0.04), words, ink, 0.034 * max(pen.height, 0.6 * pen.width))
    if look["line"] != "book":
        table(pen, inner(right, 0.06), look, ink)
    code, signs = split_x(foot, 0.46)
    pen.bars(fit(inner(code, 0.06), 1.6), look["ean"])
    pictograms(pen, inner(signs, 0.1), look, ink)


def fit(box: Box, aspect: float) -> Box:
    """Return the largest box of an aspect (width / height) in the middle of another."""
    x1, y1, x2, y2 = box
    w = min(x2 - x1, aspect * (y2 - y1))
    h = w / aspect
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def table(pen: Pen, box: Box, look: Look, ink: Colour) -> None:
    """Print a small table of figures."""
    rng = np.random.default_rng([5, look["art"]])
    food = look["line"] in FOOD
    rows = ("Energy", "Fat", "Carbs", "Sugars", "Protein", "Salt") if food else _FACTS
    pen.frame(box, ink, 2)
    step = (box[3] - box[1]) / (len(rows) + 1)
    pen.fill((box[0], box[1], box[2], box[1] + step), ink)
    for i, row in enumerate(rows):
        y = box[1] + (i + 1) * step
        pen.fill((box[0], y, box[2], y + 1), ink)
        cell = (box[0] + 6, y, box[2] - 6, y + step)
        value = f"{float(rng.uniform(0.1, 60)):.1f}{' g' if food else ''}"
        most = min(0.62 * step, 0.13 * (box[2] - box[0]))
        pen.text(split_x(cell, 0.6)[0], row, "condensed", ink, align="left", most=most)
        pen.text(split_x(cell, 0.6)[1], value, "condensed", ink, align="right", most=most)


def pictograms(pen: Pen, box: Box, look: Look, ink: Colour) -> None:
    """Print signs in a row: recycling, this way up, fragile, mark of conformity, keep dry."""
    rng = np.random.default_rng([6, look["art"]])
    x1, y1, x2, y2 = box
    h = min(y2 - y1, (x2 - x1) / 3.3)
    for i, which in enumerate(rng.permutation(5)[:3]):
        x, y = x1 + (i + 0.5) * (x2 - x1) / 3, (y1 + y2) / 2
        _SIGNS[int(which)](pen, x, y, 0.42 * h, ink)


def _recycle(pen: Pen, x: float, y: float, r: float, ink: Colour) -> None:
    w = max(2, round(0.22 * r))
    for k in range(3):
        pen.draw.arc((x - 0.8 * r, y - 0.8 * r, x + 0.8 * r, y + 0.8 * r), 120 * k, 120 * k + 80,
                     ink, w)  # fmt: skip
        a = np.deg2rad(120 * k + 88)
        c, s = float(np.cos(a)), float(np.sin(a))
        tip = (x + 0.7 * r * c - 0.35 * r * s, y + 0.7 * r * s + 0.35 * r * c)
        pen.draw.polygon([(x + 0.45 * r * c, y + 0.45 * r * s), (x + 1.0 * r * c, y + 1.0 * r * s),
                          tip], fill=ink)  # fmt: skip


def _up(pen: Pen, x: float, y: float, r: float, ink: Colour) -> None:
    for dx in (-0.4, 0.4):
        cx = x + dx * r
        pen.draw.polygon([(cx, y - 0.9 * r), (cx + 0.33 * r, y - 0.35 * r),
                          (cx - 0.33 * r, y - 0.35 * r)], fill=ink)  # fmt: skip
        pen.draw.rectangle((cx - 0.11 * r, y - 0.35 * r, cx + 0.11 * r, y + 0.6 * r), fill=ink)
    pen.draw.rectangle((x - 0.8 * r, y + 0.72 * r, x + 0.8 * r, y + 0.88 * r), fill=ink)


def _glass(pen: Pen, x: float, y: float, r: float, ink: Colour) -> None:
    pen.draw.polygon([(x - 0.5 * r, y - 0.9 * r), (x + 0.5 * r, y - 0.9 * r), (x + 0.36 * r, y),
                      (x, y + 0.2 * r), (x - 0.36 * r, y)], fill=ink)  # fmt: skip
    pen.draw.rectangle((x - 0.07 * r, y, x + 0.07 * r, y + 0.75 * r), fill=ink)
    pen.draw.rectangle((x - 0.4 * r, y + 0.72 * r, x + 0.4 * r, y + 0.88 * r), fill=ink)


def _conform(pen: Pen, x: float, y: float, r: float, ink: Colour) -> None:
    w = max(2, round(0.2 * r))
    for dx in (-0.5, 0.55):
        cx = x + dx * r
        pen.draw.arc((cx - 0.55 * r, y - 0.6 * r, cx + 0.55 * r, y + 0.6 * r), 80, 280, ink, w)
    pen.draw.rectangle((x + 0.1 * r, y - 0.08 * r, x + 0.55 * r, y + 0.08 * r), fill=ink)


def _dry(pen: Pen, x: float, y: float, r: float, ink: Colour) -> None:
    pen.draw.pieslice((x - 0.8 * r, y - 0.6 * r, x + 0.8 * r, y + 0.9 * r), 180, 360, fill=ink)
    pen.draw.rectangle((x - 0.06 * r, y, x + 0.06 * r, y + 0.8 * r), fill=ink)
    for dx in (-0.5, 0.0, 0.5):
        cx = x + dx * r
        pen.draw.rectangle((cx - 0.06 * r, y - 0.95 * r, cx + 0.06 * r, y - 0.68 * r), fill=ink)


_SIGNS = (_recycle, _up, _glass, _conform, _dry)


def side(pen: Pen, look: Look, number: int) -> None:
    """Print a narrow side: brand and name, or claims and the bar code."""
    s = Style.of(look)
    whole = (0.0, 0.0, float(pen.width), float(pen.height))
    ground = (s.ground, s.second)[(look["art"] + number) % 2]
    pen.fill(whole, ground)
    ink = s.on(ground)
    if pen.height > 1.6 * pen.width:
        top, low = split_y(inner(whole, 0.12), 0.7)
        pen.upright(top, f"{look['brand']} {look['name']}", look["logo_face"], ink)
        motif(pen.draw, look["sign"], (low[0] + low[2]) / 2, (low[1] + low[3]) / 2,
              0.3 * (low[2] - low[0]), (s.accent, ink, ink))  # fmt: skip
        return
    left, right = split_x(inner(whole, 0.12), 0.52)
    wordmark(pen, inner(split_y(left, 0.5)[0], 0.08), look, ink, s.accent)
    variant(pen, inner(split_y(left, 0.5)[1], 0.14), look, s, chip=True)
    if number % 2:
        pen.bars(fit(inner(right, 0.04), 1.7), look["ean"])
        return
    name(pen, inner(split_y(right, 0.6)[0], 0.08), look, ink)
    pen.text(inner(split_y(right, 0.6)[1], 0.1), look["amount"], "bold", ink)


def end(pen: Pen, look: Look, number: int) -> None:
    """Print a small end: the motif and the variant, or the date and batch."""
    s = Style.of(look)
    whole = (0.0, 0.0, float(pen.width), float(pen.height))
    ground = (s.second, s.ground)[number % 2]
    pen.fill(whole, ground)
    body = inner(whole, 0.12)
    if number % 2 == 0:
        top, low = split_y(body, 0.55)
        wordmark(pen, top, look, s.on(ground), s.accent)
        variant(pen, inner(low, 0.1), look, s, chip=True)
        return
    top, low = split_y(body, 0.5)
    pen.text(top, look["name"], look["face"], s.on(ground))
    rng = np.random.default_rng([7, look["art"]])
    batch, month = int(rng.integers(10**5)), int(rng.integers(1, 13))
    until = "BEST BEFORE" if look["line"] in FOOD else "PACKED"
    stamp = [f"L{batch:05d} B", f"{until} {month:02d}.2027"]
    pen.lines(inner(low, 0.08), stamp, "mono_bold", s.on(ground))


def sticker(pen: Pen, look: Look, box: Box) -> None:
    """Print a white product sticker: name, variant, amount, bar code."""
    s = Style.of(look)
    pen.fill(box, (247, 247, 244))
    pen.frame(box, (172, 172, 168), 2)
    body = inner(box, 0.07)
    top, rest = split_y(body, 0.42)
    wordmark(pen, inner(split_y(top, 0.5)[0], 0.1), look, s.ink, s.second)
    pen.text(inner(split_y(top, 0.5)[1], 0.08), look["name"], "bold", s.ink)
    left, right = split_x(rest, 0.5)
    variant(pen, inner(split_y(left, 0.55)[0], 0.08), look, s, chip=True)
    pen.text(inner(split_y(left, 0.55)[1], 0.14), look["amount"], "bold", s.ink)
    pen.bars(fit(inner(right, 0.04), 1.5), look["ean"])


def address(pen: Pen, look: Look, box: Box, seed: int) -> None:
    """Print a shipping label: sender, address, routing code, bar code."""
    rng = np.random.default_rng([8, look["art"], seed])
    ink = (24, 24, 26)
    pen.fill(box, (246, 246, 244))
    body = inner(box, 0.05)
    pen.frame(body, ink, 2)
    top, rest = split_y(body, 0.34)
    left, right = split_x(top, 0.62)
    pen.lines(inner(left, 0.1), [f"{look['brand']} Store", f"{rng.integers(2, 98)} Mill Lane",
                                 look["city"]], "condensed", ink, align="left")  # fmt: skip
    pen.fill(right, ink)
    pen.text(inner(right, 0.18), f"{chr(65 + int(rng.integers(26)))}{rng.integers(1, 30)}", "bold",
             (246, 246, 244))  # fmt: skip
    middle, low = split_y(rest, 0.3)
    pen.text(inner(middle, 0.12), f"{look['name']} {look['variant']}", "condensed_bold", ink)
    pen.bars(inner(low, 0.05), f"{rng.integers(10**12, 2 * 10**12)}")


def spots(pen: Pen, look: Look, paint: Colour) -> None:
    """Cover the panel with the brand's pattern in a faint colour."""
    whole = (0.0, 0.0, float(pen.width), float(pen.height))
    pattern(pen, whole, look["motif"], paint, 0.22 * min(pen.width, pen.height))


def kraft(pen: Pen, look: Look, *, large: bool) -> None:
    """Print a transport carton's face in one ink."""
    s = Style.of(look)
    whole = (0.0, 0.0, float(pen.width), float(pen.height))
    pen.fill(whole, s.ground)
    ink = mix(s.ground, s.second if sum(s.ground) > 390 else s.light, 0.9)
    if look["ground"] == "kraft":
        ink = mix(s.ground, s.ink, 0.75)
    if look["dressing"] % 3 == 0 and large:
        spots(pen, look, mix(s.ground, ink, 0.18))
    body = inner(whole, 0.07)
    top, low = split_y(body, 0.5)
    if large:  # labels are stuck on the other two quarters
        odd = look["dressing"] % 2
        top, low = split_x(top, 0.5)[1 - odd], split_x(low, 0.5)[odd]
        text, signs = split_y(low, 0.6)
    else:
        text, signs = split_x(low, 0.55)
    wordmark(pen, inner(top, 0.12), look, ink, ink)
    lines = [look["name"], f"{look['variant']}  {look['amount']}"]
    pen.lines(inner(text, 0.1), lines, "condensed_bold", ink, align="left")
    a, b = split_x(signs, 0.3)
    r = 0.42 * min(a[2] - a[0], a[3] - a[1])
    motif(pen.draw, look["sign"], (a[0] + a[2]) / 2, (a[1] + a[3]) / 2, r, (s.spot, ink, ink))
    pictograms(pen, inner(b, 0.06), look, ink)


def banner(pen: Pen, look: Look) -> None:
    """Print the band or sticker of a multipack: what it is, and how much."""
    s = Style.of(look)
    words, amount, share = look["banner"]  # share: of the width that is seen from one side
    pen.fill((0, 0, pen.width, pen.height), s.accent)
    edge = 0.09 * pen.height
    for y in (0.0, pen.height - edge):
        pen.fill((0, y, pen.width, y + edge), s.second)
    margin = (1 - 0.88 * share) / 2 * pen.width
    room = (margin, 1.6 * edge, pen.width - margin, pen.height - 1.6 * edge)
    if room[2] - room[0] > 3 * (room[3] - room[1]):
        left, right = split_x(room, 0.55)
        right = (right[0] + 0.08 * (right[2] - right[0]), right[1], right[2], right[3])
    else:
        left, right = split_y(room, 0.5)
    pen.text(left, words.upper(), "condensed_bold", s.on(s.accent))
    pen.text(right, amount, "bold", s.on(s.accent))
