"""One picture of a search: the query on the left, what it was found to be like on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from robollm.core.decide import AMBIGUOUS, IDENTIFIED, NOT_IN_MANIFEST, UNKNOWN
from robollm.runtime import overlay
from robollm.runtime.lettering import Colour, Image, drawable, put, shorten, width_of, wrap

_EDGE, _GAP = 28, 20  # px, around everything and between cards
_LEFT = 500  # px, width of the query's column
_CARD_W, _PHOTO_H, _TEXT_H = 300, 240, 182  # px
_VIEW_H = 200  # px, at least, of several views
_COLUMNS = 3
_PAPER, _CARD, _GROUND = (246, 244, 243), (255, 255, 255), (234, 231, 229)  # BGR
_INK, _QUIET, _LINE = (40, 34, 30), (124, 114, 108), (218, 213, 210)
_WHITE = (255, 255, 255)
_BAR, _TICK = (190, 130, 60), (60, 60, 60)
_BOX = (40, 200, 255)

_COLOURS = {
    IDENTIFIED: (78, 140, 34),
    AMBIGUOUS: (0, 118, 205),
    UNKNOWN: (105, 96, 90),
    NOT_IN_MANIFEST: (60, 60, 190),
}


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture of the object that is asked for.

    Attributes:
        name: what to call it.
        image: (H, W, 3) uint8 BGR.
        box: (x1, y1, x2, y2) of the object, px; None: the whole picture.
    """

    name: str
    image: Image
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One product that was found.

    Attributes:
        product_id: the product.
        title: its title; may be empty.
        similarity: cosine in [-1, 1].
        probability: in [0, 1]; None: not published.
        source: name of its most similar reference picture.
        picture: that picture, (H, W, 3) uint8 BGR; None: there is none to show.
        problem: why there is none, in a few words.
        chosen: it is (one of those in) the decision.
        outside: it is not in the manifest that was asked.
    """

    product_id: str
    title: str
    similarity: float
    probability: float | None
    source: str
    picture: Image | None
    problem: str = ""
    chosen: bool = False
    outside: bool = False


def draw_matches(
    views: Sequence[View],
    candidates: Sequence[Candidate],
    *,
    decision: str,
    headline: str,
    reason: str,
    footer: str,
    accept: float | None = None,
    trained: bool = True,
) -> Image:
    """Draw a query beside its matches.

    Args:
        views: pictures of the object, at least one.
        candidates: best first.
        decision: identified, ambiguous, unknown or not_in_manifest: the colour of the banner.
        headline: the decision in a few words.
        reason: one sentence more; may be empty.
        footer: where the answer comes from; may be empty.
        accept: cosine up to which the answer is unknown, a mark on the bars of those that are not
            outside; None: no mark.
        trained: False puts a loud mark on the picture, and takes the colour away.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    tint = _COLOURS.get(decision, _COLOURS[UNKNOWN]) if trained else _COLOURS[UNKNOWN]
    columns = max(1, min(_COLUMNS, len(candidates)))
    rows = max(1, -(-len(candidates) // columns))
    right = columns * (_CARD_W + _GAP) - _GAP
    body = max(rows * (_PHOTO_H + _TEXT_H), -(-len(views) // 2) * _VIEW_H)
    body += _GAP * (rows - 1)
    width = _EDGE + _LEFT + 2 * _GAP + right + _EDGE
    banner = _banner(width, headline, reason, tint)
    top = len(banner) + 44
    page = np.full((top + body + 56, width, 3), _PAPER, np.uint8)
    page[: len(banner)] = banner
    put(page, "QUERY", (_EDGE, top - 14), _QUIET, 11, bold=True)
    _views(page, views, top, body)
    left = _EDGE + _LEFT + 2 * _GAP
    put(page, "MATCHES", (left, top - 14), _QUIET, 11, bold=True)
    if accept is not None and not all(c.outside for c in candidates):
        note = f"mark: unknown up to {accept:.3f}"
        put(page, note, (left + right - width_of(note, 10), top - 14), _QUIET, 10)
    for i, candidate in enumerate(candidates):
        x = left + (i % columns) * (_CARD_W + _GAP)
        y = top + (i // columns) * (_PHOTO_H + _TEXT_H + _GAP)
        _card(page, candidate, i + 1, (x, y), tint, accept)
    if not candidates:
        put(page, "nothing to compare with", (left, top + 40), _QUIET, 13)
    line = shorten(drawable(footer), width - 2 * _EDGE, 10)
    put(page, line, (_EDGE, page.shape[0] - 20), _QUIET, 10)
    return page if trained else overlay.untrained_mark(page)


def _banner(width: int, headline: str, reason: str, tint: Colour) -> Image:
    room = width - 2 * _EDGE
    big = wrap(drawable(headline), room, 22, lines=2, bold=True)
    small = wrap(drawable(reason), room, 13, lines=3)
    height = 22 + 36 * len(big) + 25 * len(small) + (10 if small else 6)
    out = np.full((height, width, 3), tint, np.uint8)
    y = 8
    for line in big:
        y += 36
        put(out, line, (_EDGE, y), _WHITE, 22, bold=True)
    y += 6
    for line in small:
        y += 25
        put(out, line, (_EDGE, y), _WHITE, 13)
    return out


def _views(page: Image, views: Sequence[View], top: int, height: int) -> None:
    """The query's pictures: one large, or several in two columns, each under its name."""
    columns = 1 if len(views) == 1 else 2
    rows = -(-len(views) // columns)
    w = (_LEFT - _GAP * (columns - 1)) // columns
    h = (height - _GAP * (rows - 1)) // rows
    y = low = top
    for i, view in enumerate(views):
        x = _EDGE + (i % columns) * (w + _GAP)
        y = low if i % columns == 0 else y
        picture, scale = _fit(view.image, w, h - 26)
        ph, pw = picture.shape[:2]
        if view.box is not None:
            picture = _boxed(picture, view.box, scale)
        px = x + (w - pw) // 2
        page[y : y + ph, px : px + pw] = picture
        cv2.rectangle(page, (px - 1, y - 1), (px + pw, y + ph), _LINE, 1)
        name = shorten(drawable(view.name), w, 11)
        put(page, name, (x + (w - width_of(name, 11)) // 2, y + ph + 20), _INK, 11)
        low = max(low, y + ph + 26 + _GAP)


def _boxed(picture: Image, box: tuple[float, float, float, float], scale: float) -> Image:
    """The picture, paler around the object, with the object's outline."""
    h, w = picture.shape[:2]
    x1, y1, x2, y2 = (round(v * scale) for v in box)
    x1, y1 = min(max(0, x1), w - 1), min(max(0, y1), h - 1)
    x2, y2 = min(max(x1 + 1, x2), w), min(max(y1 + 1, y2), h)
    out = np.asarray(0.45 * picture + 0.55 * np.array(_PAPER), np.uint8)
    out[y1:y2, x1:x2] = picture[y1:y2, x1:x2]
    cv2.rectangle(out, (x1, y1), (x2 - 1, y2 - 1), _INK, 4)
    cv2.rectangle(out, (x1, y1), (x2 - 1, y2 - 1), _BOX, 2)
    return out


def _card(
    page: Image,
    one: Candidate,
    rank: int,
    at: tuple[int, int],
    tint: Colour,
    accept: float | None,
) -> None:
    x, y = at
    high = _PHOTO_H + _TEXT_H
    page[y : y + high, x : x + _CARD_W] = _CARD
    page[y : y + _PHOTO_H, x : x + _CARD_W] = _GROUND
    if one.picture is None:
        _placeholder(page[y : y + _PHOTO_H, x : x + _CARD_W], one)
    else:
        picture, _ = _fit(one.picture, _CARD_W - 16, _PHOTO_H - 16)
        ph, pw = picture.shape[:2]
        py, px = y + (_PHOTO_H - ph) // 2, x + (_CARD_W - pw) // 2
        page[py : py + ph, px : px + pw] = picture
    edge, thick = (tint, 4) if one.chosen else (_LINE, 1)
    cv2.rectangle(page, (x, y), (x + _CARD_W - 1, y + high - 1), edge, thick)
    number = str(rank)
    badge = width_of(number, 12, bold=True) + 18
    cv2.rectangle(page, (x, y), (x + badge, y + 28), tint if one.chosen else _QUIET, -1)
    put(page, number, (x + 9, y + 20), _WHITE, 12, bold=True)
    if one.outside:
        tag = "not in this container"
        wide = width_of(tag, 10, bold=True) + 16
        right = x + _CARD_W
        cv2.rectangle(page, (right - wide, y), (right - 1, y + 28), _COLOURS[NOT_IN_MANIFEST], -1)
        put(page, tag, (right - wide + 8, y + 19), _WHITE, 10, bold=True)
    left, room = x + 14, _CARD_W - 28
    line = y + _PHOTO_H + 27
    put(page, shorten(drawable(one.product_id), room, 13, bold=True), (left, line), _INK, 13,
        bold=True)  # fmt: skip
    for text in wrap(drawable(one.title), room, 11, lines=2):
        line += 22
        put(page, text, (left, line), _INK, 11)
    line = y + _PHOTO_H + 102
    _bar(page, (left, line), room, "similarity", one.similarity,
         tick=None if one.outside else accept)  # fmt: skip
    if one.probability is not None:
        _bar(page, (left, line + 26), room, "probability", one.probability)
    name = shorten(drawable(one.source), room, 10)
    put(page, name, (left, y + high - 16), _QUIET, 10)


def _bar(
    page: Image,
    at: tuple[int, int],
    room: int,
    name: str,
    value: float,
    *,
    tick: float | None = None,
) -> None:
    """A named number with a bar from 0 to 1; `tick` is marked on it."""
    x, y = at
    put(page, name, (x, y), _QUIET, 10)
    start, end = x + 92, x + room - 56
    cv2.rectangle(page, (start, y - 9), (end, y), _GROUND, -1)
    full = start + round((end - start) * min(1.0, max(0.0, value)))
    if full > start:
        cv2.rectangle(page, (start, y - 9), (full, y), _BAR, -1)
    if tick is not None and 0.0 <= tick <= 1.0:
        at_x = start + round((end - start) * tick)
        cv2.line(page, (at_x, y - 12), (at_x, y + 3), _TICK, 2)
    number = f"{value:.3f}"
    put(page, number, (x + room - width_of(number, 11, bold=True), y + 1), _INK, 11, bold=True)


def _placeholder(place: Image, one: Candidate) -> None:
    """An empty frame that says which picture is missing, and why."""
    h, w = place.shape[:2]
    cv2.rectangle(place, (24, 40), (w - 25, h - 24), _LINE, 2)
    cv2.line(place, (24, 40), (w - 25, h - 24), _LINE, 1)
    cv2.line(place, (24, h - 24), (w - 25, 40), _LINE, 1)
    lines = [
        *wrap(drawable(one.source), w - 72, 11, lines=3, bold=True),
        *wrap(drawable(one.problem or "no picture"), w - 72, 10, lines=3),
    ]
    y = h // 2 + 16 - 11 * len(lines)
    for line in lines:
        bold = line == lines[0]
        wide = width_of(line, 11 if bold else 10, bold=bold)
        x = (w - wide) // 2
        cv2.rectangle(place, (x - 6, y - 4), (x + wide + 6, y + 20), _GROUND, -1)
        put(place, line, (x, y + 13), _INK if bold else _QUIET, 11 if bold else 10, bold=bold)
        y += 24


def _fit(image: Image, width: int, height: int) -> tuple[Image, float]:
    """The image as large as it goes into a place, and the scale, in px of it per px of `image`."""
    h, w = image.shape[:2]
    scale = min(width / w, height / h)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8), scale
