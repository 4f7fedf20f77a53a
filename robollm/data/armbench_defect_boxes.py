"""The annotated boxes of defect images: in which form they are written, and what lies in the image.

No document of ARMBench says whether a box is two corners, or a corner with width and height. So
every annotation of a split is asked which of the two it fits; one form is then that of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError, FrameError
from robollm.data.armbench_defects import outer
from robollm.data.problems import Problems

CORNERS, SIZES = "x1, y1, x2, y2", "x, y, width, height"
"""The two forms; without evidence the first."""
Box = tuple[float, float, float, float]
_OUTSIDE_PX = 1.0  # a box that leaves the image by less is rounding
_LIKE, _LIKER = 0.5, 0.1  # IoU with the polygons' box, and how much more than in the other form
_STRAY, _FEW = 0.05, 2  # more boxes of the other form than these are no single mistakes


def numbers(value: Any) -> tuple[float, ...]:
    """The numbers of a list; () if it is none."""
    if not isinstance(value, list):
        return ()
    try:
        found = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return ()
    return found if np.isfinite(found).all() else ()


def outlines(value: Any) -> tuple[tuple[float, ...], ...]:
    """The polygons of an annotation that have three points or more, (x1, y1, x2, y2, ...) px."""
    rings = [numbers(ring) for ring in value] if isinstance(value, list) else []
    return tuple(ring for ring in rings if len(ring) >= 6 and len(ring) % 2 == 0)


class Annotated:
    """What an annotation says of where the held thing is, before the form of boxes is known.

    Args:
        file: of the annotation.
        annotation: with `box`, `polygons` or both; polygons aren't kept, only their box.
        hw: height and width of the image, px.
    """

    __slots__ = ("_bounds", "_hw", "_said", "_value", "file")

    def __init__(self, file: Path, annotation: Mapping[str, Any], hw: tuple[int, int]) -> None:
        given = annotation.get("box")
        self.file, self._hw = file, hw
        self._value = numbers(given)
        self._said = "" if given is None else str(given)[:80]
        self._bounds: Box | None = None
        if rings := outlines(annotation.get("polygons")):
            points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in rings])
            (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            self._bounds = x1, y1, x2, y2

    @property
    def is_whole(self) -> bool:
        """Whether the box is four zeros: the whole image."""
        return len(self._value) == 4 and not any(self._value)

    def fits(self) -> tuple[str, ...]:
        """The forms that the box can have: that of the polygons, else those within the image."""
        if len(self._value) != 4 or self.is_whole:
            return ()
        boxes = {form: self._as(form) for form in (CORNERS, SIZES)}
        if self._bounds is None:
            return tuple(form for form, box in boxes.items() if self._is_inside(box))
        like = {form: _iou(box, self._bounds) for form, box in boxes.items()}
        best, other = sorted(like, key=like.__getitem__, reverse=True)
        if like[best] < _LIKE:
            return ()
        return (best,) if like[best] >= like[other] + _LIKER else (CORNERS, SIZES)

    def held(self, form: str, problems: Problems) -> tuple[tuple[int, int, int, int] | None, str]:
        """Whole pixels of what is held, within the image, and the form that the box was read in.

        Args:
            form: of boxes.
            problems: gets `clipped_box`, `box_of_polygons`, `no_box`.

        Returns:
            (x1, y1, x2, y2) px, and `form`; the form is "" where the box is the polygons'. None and
            "": the whole image.

        Raises:
            FrameError: `bad_box`, if there is a box, but neither it nor the polygons' is of use.
        """
        if self.is_whole:
            return None, ""
        if self._said:
            try:
                return self._pixels(self._checked(form), problems), form
            except FrameError as e:
                if self._bounds is None:
                    raise
                problems.note("box_of_polygons", self.file, e.what, "that of the polygons taken")
        if self._bounds is None:
            problems.note("no_box", self.file, "neither box nor polygons", "the whole image taken")
            return None, ""
        x1, y1, x2, y2 = self._bounds
        if x2 <= x1 or y2 <= y1:
            what = "the box is that of the polygons, without an area"
            raise FrameError(what, kind="bad_box", fix="correct the polygons")
        return self._pixels(self._bounds, problems), ""

    def _as(self, form: str) -> Box:
        a, b, c, d = self._value
        return (a, b, c, d) if form == CORNERS else (a, b, a + c, b + d)

    def _is_inside(self, box: Box) -> bool:
        x1, y1, x2, y2 = box
        h, w = self._hw
        low = -_OUTSIDE_PX
        return low <= x1 < x2 <= w + _OUTSIDE_PX and low <= y1 < y2 <= h + _OUTSIDE_PX

    def _checked(self, form: str) -> Box:
        box = self._as(form) if len(self._value) == 4 else (0.0, 0.0, 0.0, 0.0)
        fits = self.fits()
        if box[2] <= box[0] or box[3] <= box[1] or (fits and form not in fits):
            raise FrameError(
                f"the box is {self._said}, want {form}", kind="bad_box", fix="correct the box"
            )
        return box

    def _pixels(self, box: Box, problems: Problems) -> tuple[int, int, int, int]:
        height, width = self._hw
        x1, y1, x2, y2 = outer(*box)
        inside = (max(x1, 0), max(y1, 0), min(x2, width), min(y2, height))
        what = f"the box {[x1, y1, x2, y2]} is not within the image of {width}x{height} px"
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            raise FrameError(what, kind="bad_box", fix="correct the box")
        if inside != (x1, y1, x2, y2):
            problems.note("clipped_box", self.file, what, "cut at the border")
        return inside


def form_of(found: Sequence[Annotated], root: Path, problems: Problems) -> str:
    """The form of all boxes of a split.

    Args:
        found: its annotations.
        root: where they are, for people.
        problems: gets `box_form`, if they are not plainly corners.

    Returns:
        `CORNERS` or `SIZES`.

    Raises:
        ConfigError: if there are more than stray boxes of the other form, or as many of each.
    """
    count: Counter[tuple[str, ...]] = Counter()
    first: dict[str, Path] = {}
    for one in found:
        count[fits := one.fits()] += 1
        for form in fits[:1] if len(fits) == 1 else ():
            first.setdefault(form, one.file)
    alone = {form: count[(form,)] for form in (CORNERS, SIZES)}
    fewer, more = sorted(alone.values())
    if fewer and (fewer == more or fewer > max(_FEW, _STRAY * (fewer + more))):
        seen = " and ".join(f"{n} as {form} (first: {first[form]})" for form, n in alone.items())
        raise ConfigError(
            f"boxes of {root} are written in two ways: {seen} alone fit image or polygons",
            fix="correct the annotations, or take whole images (--defect-crop image)",
        )
    form = SIZES if alone[SIZES] > alone[CORNERS] else CORNERS
    both = count[CORNERS, SIZES]
    if form == SIZES or (both and not more):
        problems.note(
            "box_form",
            root,
            f"{alone[SIZES]} boxes fit {SIZES} alone, {alone[CORNERS]} {CORNERS} alone, "
            f"{both} both",
            f"read as {form}",
        )
    return form


def _iou(a: Box, b: Box) -> float:
    """Overlap of two boxes; 0 where one has no area."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0 or a[2] <= a[0] or a[3] <= a[1]:
        return 0.0
    both = w * h
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
