"""Text in pictures that fits its place: measured, wrapped, shortened, never cut off."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNICODE = int(cv2.__version__.split(".", 1)[0]) >= 5  # older OpenCV draws `?` for all but ASCII
_MORE = "..."


def drawable(text: str) -> str:
    """The text as this OpenCV can draw it, in one line: without accents before version 5."""
    if not _UNICODE:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if not unicodedata.combining(c))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@lru_cache(maxsize=64)
def _scale(height: int) -> float:
    """The font scale at which a capital letter is about `height` px high."""
    (_, unit), _ = cv2.getTextSize("H", _FONT, 10.0, 1)
    return 10.0 * height / unit


def _thickness(height: int, bold: bool) -> int:
    if _UNICODE:  # a weight of the typeface
        return 2 if bold else 1
    return max(1, round(height / (7 if bold else 12)))  # the width of the pen, px


def width_of(text: str, height: int, *, bold: bool = False) -> int:
    """Width of a line, px, whose capitals are about `height` px high."""
    (width, _), _ = cv2.getTextSize(text, _FONT, _scale(height), _thickness(height, bold))
    return int(width)


def shorten(text: str, width: int, height: int, *, bold: bool = False) -> str:
    """The text if it fits into `width` px, else its beginning and three dots."""
    if width_of(text, height, bold=bold) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the most letters that fit
        middle = (low + high + 1) // 2
        if width_of(text[:middle].rstrip() + _MORE, height, bold=bold) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + _MORE


def wrap(text: str, width: int, height: int, *, lines: int, bold: bool = False) -> list[str]:
    """Break a text at its spaces into at most `lines` lines of `width` px; the last is shortened.

    Args:
        text: any text.
        width: of a line, px.
        height: of a capital letter, px.
        lines: at most, >= 1.
        bold: as it will be drawn.
    """
    words = text.split()
    out: list[str] = []
    while words and len(out) < lines - 1:
        line = words[0]
        taken = 1
        while taken < len(words):
            longer = f"{line} {words[taken]}"
            if width_of(longer, height, bold=bold) > width:
                break
            line, taken = longer, taken + 1
        if taken == 1 and width_of(line, height, bold=bold) > width:
            break  # one word that is too long: shortened below
        out.append(line)
        words = words[taken:]
    if words:
        out.append(shorten(" ".join(words), width, height, bold=bold))
    return out


def put(
    image: Image, text: str, at: tuple[int, int], ink: Colour, height: int, *, bold: bool = False
) -> None:
    """Draw one line.

    Args:
        image: (H, W, 3) uint8 BGR; drawn on.
        text: what `drawable` gave.
        at: x of its left end, y of its base line, px.
        ink: BGR.
        height: of a capital letter, px.
        bold: thicker.
    """
    thick = _thickness(height, bold)
    cv2.putText(image, text, at, _FONT, _scale(height), ink, thick, cv2.LINE_AA)
