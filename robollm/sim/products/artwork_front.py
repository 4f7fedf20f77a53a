"""Ten layouts of a package's front."""

from __future__ import annotations

from collections.abc import Callable

from robollm.sim.products.artwork_blocks import (
    Look,
    Style,
    badge,
    hero,
    inner,
    name,
    pattern,
    scene,
    split_x,
    split_y,
    variant,
    wordmark,
)
from robollm.sim.products.artwork_pen import Box, Pen, mix


def front(pen: Pen, look: Look, box: Box | None = None) -> None:
    """Print a front over a box (by default the panel)."""
    style = Style.of(look)
    box = box or (0.0, 0.0, float(pen.width), float(pen.height))
    if box[2] - box[0] > 1.9 * (box[3] - box[1]):
        compact(pen, look, box)
    else:
        _LAYOUTS[look["layout"] % len(_LAYOUTS)](pen, box, look, style)


def compact(pen: Pen, look: Look, box: Box) -> None:
    """Print what a front has to say where there is little room: headers, upper halves of cards."""
    s = Style.of(look)
    ground, other = (s.ground, s.second) if look["layout"] % 2 else (s.second, s.ground)
    pen.fill(box, ground)
    w, h = box[2] - box[0], box[3] - box[1]
    if look["layout"] % 3 == 0:
        pattern(pen, box, look["motif"], mix(ground, other, 0.2), 0.4 * h)
    band = split_y(box, 0.94)[1]
    pen.fill(band, s.accent)
    body = inner((box[0], box[1], box[2], band[1]), 0.07)
    if w > 1.9 * h:
        left, right = split_x(body, 0.56)
        top, title = split_y(left, 0.4)
        chip, low = split_y(inner(right, 0.08), 0.55)
    else:
        top, rest = split_y(body, 0.28)
        title, rest = split_y(rest, 0.5)
        chip, low = split_x(rest, 0.62)
        chip = inner(chip, 0.12)
    wordmark(pen, inner(top, 0.06), look, s.on(ground), s.accent)
    name(pen, inner(title, 0.04), look, s.on(ground), "left" if w > 1.9 * h else "centre")
    variant(pen, chip, look, s, chip=True)
    pen.text(inner(low, 0.12), look["amount"], "bold", s.on(ground))


def _foot(pen: Pen, box: Box, look: Look, style: Style, ground: tuple[int, int, int]) -> None:
    """Claims at the left, the amount at the right."""
    left, right = split_x(box, 0.62)
    pen.lines(left, look["claims"][:2], "condensed", style.on(ground), align="left")
    pen.text(inner(right, 0.1), look["amount"], "bold", style.on(ground), align="right")


def _banner(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    top, rest = split_y(box, 0.22)
    pen.fill(top, s.second)
    wordmark(pen, inner(top, 0.18), look, s.on(s.second), s.accent)
    art, rest = split_y(rest, 0.5)
    hero(pen, inner(art, 0.06), look, s, s.ground)
    title, rest = split_y(rest, 0.5)
    name(pen, inner(title, 0.06), look, s.on(s.ground))
    chip, foot = split_y(rest, 0.52)
    variant(pen, inner(chip, 0.08), look, s, chip=True)
    _foot(pen, inner(foot, 0.12), look, s, s.ground)


def _diagonal(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    pen.draw.polygon([(x1, y1 + 0.62 * h), (x2, y1 + 0.34 * h), (x2, y2), (x1, y2)], fill=s.second)
    pen.draw.polygon(
        [(x1, y1 + 0.62 * h), (x2, y1 + 0.34 * h), (x2, y1 + 0.37 * h), (x1, y1 + 0.65 * h)],
        fill=s.accent,
    )
    wordmark(
        pen, inner((x1, y1, x1 + 0.75 * w, y1 + 0.2 * h), 0.15), look, s.on(s.ground), s.accent
    )
    name(
        pen,
        (x1 + 0.05 * w, y1 + 0.2 * h, x1 + 0.7 * w, y1 + 0.42 * h),
        look,
        s.on(s.ground),
        "left",
    )
    hero(pen, (x1 + 0.34 * w, y1 + 0.42 * h, x2 - 0.04 * w, y1 + 0.84 * h), look, s, s.second)
    variant(pen, (x1 + 0.05 * w, y1 + 0.7 * h, x1 + 0.62 * w, y1 + 0.82 * h), look, s, chip=True)
    _foot(pen, (x1 + 0.05 * w, y1 + 0.86 * h, x2 - 0.05 * w, y2 - 0.03 * h), look, s, s.second)


def _plate(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.second)
    pattern(pen, box, look["motif"], mix(s.second, s.light, 0.16), 0.2 * min(pen.width, pen.height))
    body = inner(box, 0.09)
    pen.fill(body, s.ground, 0.12 * min(pen.width, pen.height))
    pen.frame(inner(box, 0.115), s.accent, 3, 0.1 * min(pen.width, pen.height))
    body = inner(box, 0.16)
    top, rest = split_y(body, 0.18)
    wordmark(pen, top, look, s.on(s.ground), s.accent)
    title, rest = split_y(rest, 0.32)
    name(pen, inner(title, 0.04), look, s.on(s.ground))
    art, rest = split_y(rest, 0.58)
    hero(pen, art, look, s, s.ground)
    chip, foot = split_y(rest, 0.6)
    variant(pen, inner(chip, 0.06), look, s, chip=True)
    _foot(pen, foot, look, s, s.ground)


def _stripe(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    left, rest = split_x(box, 0.2)
    pen.fill(left, s.second)
    brand = look["brand"].upper() if look["upper"] else look["brand"]
    pen.upright(inner(left, 0.14), brand, look["logo_face"], s.on(s.second))
    edge, rest = split_x(rest, 0.03)
    pen.fill(edge, s.accent)
    body = inner(rest, 0.06)
    title, rest = split_y(body, 0.26)
    name(pen, title, look, s.on(s.ground), "left")
    chip, rest = split_y(rest, 0.17)
    variant(pen, chip, look, s, chip=False)
    art, foot = split_y(rest, 0.8)
    hero(pen, inner(art, 0.05), look, s, s.ground)
    _foot(pen, foot, look, s, s.ground)


def _minimal(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    body = inner(box, 0.1)
    top, rest = split_y(body, 0.12)
    wordmark(pen, split_x(top, 0.6)[0], look, s.on(s.ground), s.accent)
    pen.fill((body[0], rest[1] + 4, body[2], rest[1] + 8), s.second)
    title, rest = split_y(rest, 0.52)
    name(pen, inner(title, 0.08), look, s.on(s.ground), "left")
    chip, rest = split_y(rest, 0.36)
    variant(pen, split_x(chip, 0.8)[0], look, s, chip=False)
    note, foot = split_y(rest, 0.45)
    words = " ".join(look["claims"]).split()
    pen.paragraph(split_x(note, 0.6)[0], words, s.on(s.ground), 0.03 * pen.height)
    _foot(pen, foot, look, s, s.ground)


def _pattern(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    small = min(box[2] - box[0], box[3] - box[1])
    pattern(pen, box, look["motif"], mix(s.ground, s.second, 0.55), 0.26 * small)
    band = (box[0], box[1] + 0.28 * (box[3] - box[1]), box[2], box[1] + 0.74 * (box[3] - box[1]))
    pen.fill(band, s.second)
    pen.fill((band[0], band[1], band[2], band[1] + 0.02 * small), s.accent)
    pen.fill((band[0], band[3] - 0.02 * small, band[2], band[3]), s.accent)
    top, rest = split_y(inner(band, 0.08), 0.3)
    wordmark(pen, top, look, s.on(s.second), s.accent)
    title, chip = split_y(rest, 0.6)
    name(pen, inner(title, 0.04), look, s.on(s.second))
    variant(pen, split_x(inner(chip, 0.06), 0.74)[0], look, s, chip=True)
    pen.text(inner(split_x(chip, 0.76)[1], 0.12), look["amount"], "bold", s.on(s.second))


def _scene(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    top, art = split_y(box, 0.48)
    scene(pen, art, look, s)
    head, title = split_y(inner(top, 0.08), 0.36)
    wordmark(pen, head, look, s.on(s.ground), s.second)
    name(pen, title, look, s.on(s.ground))
    hero(pen, inner(split_y(art, 0.66)[0], 0.05), look, s, s.light)
    low = split_y(art, 0.7)[1]
    pen.fill(low, s.ground)
    chip, foot = split_y(inner(low, 0.08), 0.6)
    variant(pen, chip, look, s, chip=True)
    _foot(pen, foot, look, s, s.ground)


def _classic(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.ground)
    pen.frame(inner(box, 0.035), s.second, 5)
    pen.frame(inner(box, 0.06), s.second, 2)
    body = inner(box, 0.11)
    top, rest = split_y(body, 0.2)
    wordmark(pen, top, look, s.second, s.accent)
    line = (body[0], rest[1] + 2, body[2], rest[1] + 5)
    pen.fill(line, s.accent)
    title, rest = split_y(rest, 0.28)
    pen.lines(inner(title, 0.08), [look["name"]], "serif_bold", s.on(s.ground))
    art, rest = split_y(rest, 0.6)
    hero(pen, inner(art, 0.06), look, s, s.ground)
    chip, foot = split_y(rest, 0.55)
    variant(pen, inner(chip, 0.05), look, s, chip=False)
    _foot(pen, foot, look, s, s.ground)


def _bleed(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.gradient(box, s.ground, mix(s.ground, s.second, 0.55))
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    size = 0.62 * max(w, h)
    hero(pen, (x1 + 0.42 * w, y1 + 0.38 * h, x1 + 0.42 * w + size, y1 + 0.38 * h + size), look, s,
         s.ground)  # fmt: skip
    wordmark(
        pen, inner((x1, y1, x1 + 0.7 * w, y1 + 0.18 * h), 0.16), look, s.on(s.ground), s.accent
    )
    name(
        pen,
        (x1 + 0.05 * w, y1 + 0.2 * h, x1 + 0.8 * w, y1 + 0.44 * h),
        look,
        s.on(s.ground),
        "left",
    )
    variant(pen, (x1 + 0.05 * w, y1 + 0.48 * h, x1 + 0.55 * w, y1 + 0.59 * h), look, s, chip=True)
    pen.lines((x1 + 0.05 * w, y1 + 0.66 * h, x1 + 0.4 * w, y1 + 0.8 * h), look["claims"],
              "condensed_bold", s.on(s.ground), align="left")  # fmt: skip
    plate = (x1 + 0.05 * w, y1 + 0.87 * h, x1 + 0.36 * w, y1 + 0.96 * h)
    pen.fill(plate, s.light, 4)
    pen.text(inner(plate, 0.1), look["amount"], "bold", s.ink)


def _bars(pen: Pen, box: Box, look: Look, s: Style) -> None:
    pen.fill(box, s.second)
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    for i, paint in enumerate((s.accent, s.light, s.ground)):
        pen.fill((x1, y1 + (0.62 + 0.03 * i) * h, x2, y2), paint)
    wordmark(pen, inner((x1, y1, x2, y1 + 0.16 * h), 0.18), look, s.on(s.second), s.accent)
    name(pen, (x1 + 0.06 * w, y1 + 0.17 * h, x2 - 0.06 * w, y1 + 0.36 * h), look, s.on(s.second))
    hero(pen, (x1 + 0.08 * w, y1 + 0.38 * h, x1 + 0.92 * w, y1 + 0.78 * h), look, s, s.second)
    variant(pen, (x1 + 0.06 * w, y1 + 0.8 * h, x1 + 0.6 * w, y1 + 0.9 * h), look, s, chip=True)
    r = 0.13 * min(w, h)
    badge(pen, x2 - 1.3 * r, y1 + 0.84 * h, r, look["claims"][0], s.accent, s.on(s.accent))
    _foot(pen, (x1 + 0.06 * w, y1 + 0.91 * h, x2 - 2.8 * r, y2 - 0.01 * h), look, s, s.ground)


_LAYOUTS: tuple[Callable[[Pen, Box, Look, Style], None], ...] = (
    _banner,
    _diagonal,
    _plate,
    _stripe,
    _minimal,
    _pattern,
    _scene,
    _classic,
    _bleed,
    _bars,
)
