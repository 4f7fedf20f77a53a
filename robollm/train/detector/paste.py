"""Training totes out of several pictures: pasted objects, other backgrounds, erased spots.

Source: copy-paste is arXiv:2012.07177, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data.armbench_instances import Instance
from robollm.train.detector.tote_view import Pixels, Placed, fitted
from robollm.train.engine.ranges import share, span

Bits = NDArray[np.bool_]

_LARGEST, _SMALLEST = 0.2, 0.002
"""Of the view: what is larger would hide all that lies below, what is smaller is noise."""
_FULL = 0.35
"""Of its box: with less visible it is a sliver that lay below others, and looks like nothing."""
_KEPT = 0.1
"""Of an instance's visible area: with less left nobody could say what it is."""
_STRIP_PX = 12


@dataclass(frozen=True, slots=True)
class Mix:
    """How training views are mixed with other pictures; all off by default.

    Attributes:
        paste: chance that objects of another picture are pasted.
        paste_most: up to as many.
        paste_scale: their size, times that of what the view shows.
        background: chance that what lies outside of the totes is replaced.
        erase: chance that spots are erased; the truth doesn't change.
        erase_most: up to as many.
        erase_area: of one, as a share of the view.

    Raises:
        ConfigError: for a setting out of range.
    """

    paste: float = 0.0
    paste_most: int = 3
    paste_scale: tuple[float, float] = (0.7, 1.4)
    background: float = 0.0
    erase: float = 0.0
    erase_most: int = 3
    erase_area: tuple[float, float] = (0.001, 0.006)

    def __post_init__(self) -> None:
        for name in ("paste", "background", "erase"):
            object.__setattr__(self, name, share(name, getattr(self, name)))
        for name in ("paste_most", "erase_most"):
            count = getattr(self, name)
            if not isinstance(count, int) or not 1 <= count <= 50:
                raise ConfigError(f"{name} is {count!r}, want a whole number from 1 to 50")
        for name, low, high in (("paste_scale", 0.05, 20.0), ("erase_area", 1e-5, 1.0)):
            object.__setattr__(self, name, span(name, getattr(self, name), low, high))


MIX_OPTIONS = tuple(one.name for one in fields(Mix))


@dataclass(frozen=True, slots=True)
class Part:
    """One instance of a view.

    Attributes:
        label: its class.
        mask: (h, w) bool, its visible pixels.
        ignored: neither an example nor background.
    """

    label: int
    mask: Bits
    ignored: bool


@dataclass(frozen=True, slots=True)
class Cutting:
    """One object, cut out.

    Attributes:
        rgb: (h, w, 3) uint8, with a margin.
        mask: (h, w) bool.
    """

    rgb: Pixels
    mask: Bits


def cut(
    rgb: Pixels, instance: Instance, scale: float, flips: Sequence[bool], view_px: int
) -> Cutting | None:
    """Cut an object out of its picture.

    Args:
        rgb: (H, W, 3) uint8.
        instance: of that picture.
        scale: canvas px per source px.
        flips: whether left and right, and up and down change places.
        view_px: area of the view that it is for, canvas px.

    Returns:
        None for what shouldn't be pasted: `_LARGEST`, `_SMALLEST` and `_FULL` say what.

    Raises:
        FrameError: see `Placed.mask`.
    """
    h, w = rgb.shape[:2]
    x1, y1, x2, y2 = instance.box
    margin = 2 + int(2 / scale)
    x, y = max(0, int(x1) - margin), max(0, int(y1) - margin)
    part = rgb[y : min(h, int(np.ceil(y2)) + margin), x : min(w, int(np.ceil(x2)) + margin)]
    size = max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale))
    box_px = (x2 - x1) * (y2 - y1) * scale**2
    if box_px > _LARGEST * view_px:
        return None
    left, up = flips
    sx, sy = size[1] / part.shape[1], size[0] / part.shape[0]
    place = Placed(
        (-sx if left else sx, -sy if up else sy),
        (size[1] + sx * x if left else -sx * x, size[0] + sy * y if up else -sy * y),
        size,
    )
    mask = place.mask(instance, (h, w))
    if np.count_nonzero(mask) < max(1, _SMALLEST * view_px, _FULL * box_px):
        return None
    pixels = fitted(np.ascontiguousarray(part), size)[:: -1 if up else 1, :: -1 if left else 1]
    return Cutting(np.ascontiguousarray(pixels), mask)


def paste(
    rgb: Pixels, parts: Sequence[Part], one: Cutting, label: int, at: tuple[int, int], least: float
) -> tuple[Pixels, list[Part]]:
    """Lay an object over a view; its edge is mixed over three pixels.

    Args:
        rgb: (H, W, 3) uint8; not modified.
        parts: of that view, from the lowest up.
        one: what to paste.
        label: its class.
        at: (x, y) of its middle, canvas px.
        least: smaller masks are ignored, canvas px.

    Returns:
        The view and its parts, the pasted one last. What is wholly hidden is gone, what is hidden
        but for `_KEPT` is ignored. The same as before if less than half of the object would be
        inside, or less than `least`.
    """
    (h, w), (ch, cw) = rgb.shape[:2], one.mask.shape
    x, y = at[0] - cw // 2, at[1] - ch // 2
    x1, y1, x2, y2 = max(0, x), max(0, y), min(w, x + cw), min(h, y + ch)
    window = np.s_[max(0, y1 - y) : max(0, y2 - y), max(0, x1 - x) : max(0, x2 - x)]
    seen = one.mask[window]
    if np.count_nonzero(seen) < max(least, np.count_nonzero(one.mask) / 2, 1):
        return rgb, list(parts)
    share_of = cv2.blur(one.mask.astype(np.float32), (3, 3), borderType=cv2.BORDER_CONSTANT)
    alpha = np.asarray(share_of, np.float32)[window][..., None]
    out = rgb.copy()
    below = out[y1:y2, x1:x2].astype(np.float32)
    mixed = below + (one.rgb[window] - below) * alpha
    out[y1:y2, x1:x2] = np.rint(mixed).astype(np.uint8)
    left: list[Part] = []
    for part in parts:
        hidden = np.count_nonzero(part.mask[y1:y2, x1:x2] & seen)
        if not hidden:
            left.append(part)
            continue
        before = np.count_nonzero(part.mask)
        area = before - hidden
        if area:
            rest = part.mask.copy()
            rest[y1:y2, x1:x2] &= ~seen
            lost = area < least or area < _KEPT * before
            left.append(replace(part, mask=rest, ignored=part.ignored or lost))
    mask = np.zeros((h, w), bool)
    mask[y1:y2, x1:x2] = seen
    return out, [*left, Part(label, mask, False)]


def tote_area(totes: Sequence[Bits], others: Sequence[Bits], hw: tuple[int, int]) -> Bits:
    """Where totes and their content are.

    A tote's annotation has holes where objects lie, and may lack some: totes are convex.

    Args:
        totes: (H, W) bool masks.
        others: the same, of what isn't a tote.
        hw: (H, W).

    Returns:
        (H, W) bool; nothing if there is no tote.
    """
    out = np.zeros(hw, np.uint8)
    for mask in totes:
        rows = np.flatnonzero(mask.any(1))
        if len(rows):
            # The hull needs the ends of the rows alone.
            ends = np.argmax(mask[rows], 1), mask.shape[1] - 1 - np.argmax(mask[rows, ::-1], 1)
            points = np.stack([np.concatenate(ends), np.tile(rows, 2)], 1).astype(np.int32)
            cv2.fillConvexPoly(out, cv2.convexHull(points), 1)
    area = out.astype(bool)
    if area.any():
        for mask in others:
            area |= mask
    return area


def spot(area: Bits, rng: np.random.Generator) -> tuple[int, int]:
    """(x, y) of a random place in an area, or anywhere if it is empty, rather in its middle."""
    h, w = area.shape
    inside = np.flatnonzero(area)
    if not len(inside):
        return int(rng.integers(w)), int(rng.integers(h))
    chosen = int(inside[rng.integers(len(inside))])
    ys, xs = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    middle = np.array([xs[0] + xs[-1], ys[0] + ys[-1]]) / 2
    # Towards the middle, because a tote's rim belongs to it.
    x, y = middle + 0.75 * (np.array([chosen % w, chosen // w]) - middle)
    return round(x), round(y)


def surroundings(
    rgb: Pixels, boxes: Sequence[Sequence[float]], scale: float, hw: tuple[int, int]
) -> Pixels | None:
    """A picture's own background: its broadest strip without any instance, mirrored to fill.

    Args:
        rgb: (H, W, 3) uint8.
        boxes: (x1, y1, x2, y2) of all that is on it, source px.
        scale: canvas px per source px.
        hw: (height, width) to fill, px.

    Returns:
        (height, width, 3) uint8; None if there is no strip of `_STRIP_PX` canvas px.
    """
    h, w = rgb.shape[:2]
    x1, y1, x2, y2 = w, h, 0, 0
    for box in boxes:
        x1, y1 = min(x1, int(box[0])), min(y1, int(box[1]))
        x2, y2 = max(x2, int(np.ceil(box[2]))), max(y2, int(np.ceil(box[3])))
    gap = 2  # annotations are a pixel off here and there
    strips = (rgb[: max(0, y1 - gap)], rgb[y2 + gap :], rgb[:, : max(0, x1 - gap)],
              rgb[:, x2 + gap :])  # fmt: skip
    best = max(strips, key=lambda s: min(s.shape[:2]))
    size = round(best.shape[0] * scale), round(best.shape[1] * scale)
    if min(size) < _STRIP_PX:
        return None
    strip = fitted(np.ascontiguousarray(best), size)[: hw[0], : hw[1]]
    below, right = hw[0] - strip.shape[0], hw[1] - strip.shape[1]
    return np.asarray(cv2.copyMakeBorder(strip, 0, below, 0, right, cv2.BORDER_REFLECT), np.uint8)


def texture(hw: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """A smooth random surface: a colour, mostly greyish, with spots from coarse to fine.

    Args:
        hw: (height, width), px.
        rng: where all chance comes from.

    Returns:
        (height, width, 3) uint8.
    """
    h, w = hw
    colour = rng.uniform(20, 235) + rng.uniform(-1, 1, 3) * rng.choice((8, 25, 70))
    out = np.broadcast_to(colour.astype(np.float32), (h, w, 3)).copy()
    for cells in (3, 12, 48):
        strength, grey = rng.uniform(0, 120 / cells), rng.random() < 0.7
        rows, columns = (max(1, cells * side // max(h, w)) for side in (h, w))
        small = rng.normal(0, strength, (rows, columns, 1 if grey else 3)).astype(np.float32)
        grown = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)
        out += grown.reshape(h, w, -1)
    return np.asarray(np.clip(np.rint(out), 0, 255), np.uint8)


def erased(rgb: Pixels, mix: Mix, rng: np.random.Generator) -> Pixels:
    """Fill some rectangles with one colour or with noise.

    Args:
        rgb: (H, W, 3) uint8; not modified.
        mix: says how many, and how large.
        rng: where all chance comes from.

    Returns:
        (H, W, 3) uint8.
    """
    out: Any = rgb.copy()
    h, w = rgb.shape[:2]
    for _ in range(int(rng.integers(1, mix.erase_most + 1))):
        area, ratio = rng.uniform(*mix.erase_area) * h * w, np.exp(rng.uniform(-1, 1))
        eh = min(h, max(1, round(float(np.sqrt(area * ratio)))))
        ew = min(w, max(1, round(float(np.sqrt(area / ratio)))))
        y, x = int(rng.integers(h - eh + 1)), int(rng.integers(w - ew + 1))
        noise = rng.random() < 0.5
        fill = rng.integers(0, 256, (eh, ew, 3) if noise else 3)
        out[y : y + eh, x : x + ew] = fill
    return np.asarray(out, np.uint8)
