"""A pen for print: text that fits a box, bar codes, pictograms, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from robollm.sim.products.fonts import font
from robollm.sim.world import U8

Box = tuple[float, float, float, float]  # left, top, right, bottom, px
Colour = tuple[int, int, int]


def colour(code: str) -> Colour:
    """Return RGB of "#rrggbb"."""
    r, g, b = ImageColor.getrgb(code)[:3]
    return (r, g, b)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return a colour `share` of the way from a to b."""
    r, g, c = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return (r, g, c)


def contrast(ground: Colour, dark: Colour, light: Colour) -> Colour:
    """Return whichever of two inks can be read on a ground."""
    return light if sum(ground) * 1.0 < 390 else dark


@lru_cache(maxsize=4096)
def _extent(face: str, text: str) -> tuple[int, int]:
    left, _, right, _ = font(face, 100).getbbox(text)
    return max(1, int(right - left)), 100


class Pen:
    """Draws on one panel, `size` = (width, height) px."""

    def __init__(self, size: tuple[int, int], ground: Colour) -> None:
        self.width, self.height = size
        self.image = Image.new("RGB", size, ground)
        self.draw = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Return a box given in shares of the panel."""
        w, h = self.width, self.height
        return (left * w, top * h, right * w, bottom * h)

    def fill(self, box: Box, paint: Colour, radius: float = 0.0) -> None:
        """Fill a box, its corners rounded."""
        x1, y1, x2, y2 = (round(v) for v in box)
        if x2 <= x1 or y2 <= y1:
            return
        if radius >= 1:
            r = min(radius, (x2 - x1) / 2, (y2 - y1) / 2)
            self.draw.rounded_rectangle((x1, y1, x2, y2), r, fill=paint)
        else:
            self.draw.rectangle((x1, y1, x2, y2), fill=paint)

    def frame(self, box: Box, paint: Colour, width: float, radius: float = 0.0) -> None:
        """Draw the outline of a box."""
        x1, y1, x2, y2 = (round(v) for v in box)
        if x2 > x1 and y2 > y1:
            self.draw.rounded_rectangle(
                (x1, y1, x2, y2), radius, outline=paint, width=max(1, round(width))
            )

    def text(
        self,
        box: Box,
        text: str,
        face: str,
        ink: Colour,
        *,
        align: Literal["left", "centre", "right"] = "centre",
        most: float = 1e9,
    ) -> None:
        """Write one line as large as the box and `most` (px) allow, vertically centred."""
        x1, y1, x2, y2 = box
        wide, _ = _extent(face, text)
        px = int(min(most, (y2 - y1) * 0.95, 100 * (x2 - x1) / wide))
        px -= px % 2 if px > 16 else 0  # fewer sizes to load
        if px < 4:
            return
        x = {"left": x1, "centre": (x1 + x2) / 2, "right": x2}[align]
        anchor = {"left": "lm", "centre": "mm", "right": "rm"}[align]
        self.draw.text((x, (y1 + y2) / 2), text, ink, font(face, px), anchor)

    def lines(
        self,
        box: Box,
        lines: Sequence[str],
        face: str,
        ink: Colour,
        *,
        align: Literal["left", "centre", "right"] = "centre",
    ) -> None:
        """Write lines of one size below each other."""
        x1, y1, x2, y2 = box
        step = (y2 - y1) / len(lines)
        most = min(step * 0.92, min(100 * (x2 - x1) / _extent(face, t)[0] for t in lines))
        for i, text in enumerate(lines):
            self.text((x1, y1 + i * step, x2, y1 + (i + 1) * step), text, face, ink,
                      align=align, most=most)  # fmt: skip

    def upright(self, box: Box, text: str, face: str, ink: Colour) -> None:
        """Write one line that reads upwards."""
        x1, y1, x2, y2 = box
        wide, _ = _extent(face, text)
        px = int(min((x2 - x1) * 0.9, 100 * (y2 - y1) / wide))
        if px < 5:
            return
        size = (max(4, round(y2 - y1)), max(4, round(x2 - x1)))
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).text((size[0] / 2, size[1] / 2), text, 255, font(face, px), "mm")
        self.image.paste(ink, (round(x1), round(y1)), mask.transpose(Image.Transpose.ROTATE_90))

    def paragraph(self, box: Box, words: Sequence[str], ink: Colour, px: float) -> None:
        """Fill a box with small print."""
        x1, y1, x2, y2 = box
        px = max(6, int(px))
        face = font("condensed", px)
        y, i = y1, 0
        while y + px <= y2:
            x = x1
            while True:
                word = words[i % len(words)] + " "
                wide = face.getlength(word)
                if x + wide > x2:
                    break
                self.draw.text((x, y), word, ink, face)
                x += wide
                i += 1
            if x == x1:
                return
            y += px * 1.25

    def gradient(self, box: Box, top: Colour, bottom: Colour) -> None:
        """Fill a box from one colour to another."""
        x1, y1, x2, y2 = (round(v) for v in box)
        if x2 <= x1 or y2 <= y1:
            return
        t = np.linspace(0, 1, y2 - y1)[:, None, None]
        ramp: U8 = np.broadcast_to(
            np.asarray(top) * (1 - t) + np.asarray(bottom) * t, (y2 - y1, x2 - x1, 3)
        ).astype(np.uint8)
        self.image.paste(Image.fromarray(ramp), (x1, y1))

    def bars(self, box: Box, digits: str) -> None:
        """Print an EAN-13 of 13 digits on white."""
        self.fill(box, (250, 250, 248))
        x1, y1, x2, y2 = box
        code = ean13(digits)
        module = (x2 - x1) / (len(code) + 14)
        foot = y2 - 0.2 * (y2 - y1)
        for i, bit in enumerate(code):
            if bit == "1":
                x = x1 + (7 + i) * module
                self.draw.rectangle(
                    (x, y1 + 0.06 * (y2 - y1), x + max(0.0, module - 1), foot), fill=(16, 16, 18)
                )
        self.text((x1, foot, x2, y2), " ".join(digits), "mono", (16, 16, 18))


_L = "0001101 0011001 0010011 0111101 0100011 0110001 0101111 0111011 0110111 0001011".split()
_PARITY = "LLLLLL LLGLGG LLGGLG LLGGGL LGLLGG LGGLLG LGGGLL LGLGLG LGLGGL LGGLGL".split()


def ean13(digits: str) -> str:
    """Return the 95 modules ("1" = bar) of an EAN-13 code."""
    right = str.maketrans("01", "10")
    left = ""
    for digit, parity in zip(digits[1:7], _PARITY[int(digits[0])], strict=True):
        code = _L[int(digit)]
        left += code if parity == "L" else code.translate(right)[::-1]
    tail = "".join(_L[int(d)].translate(right) for d in digits[7:])
    return f"101{left}01010{tail}101"
