"""Twelve drawn products in four families of near-duplicates.

A family shares brand, palette, layout and shape; only the flavour's text, stripe and pictogram
differ. So colour alone can tell the families apart, but not the products of one family.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.sketch_brush import (
    INK,
    PAPER,
    Image,
    Rgb,
    barcode,
    gradient,
    lit,
    pictogram,
    rounded,
    small_print,
    text,
)

OVER = 2  # textures are drawn this many times larger, then shrunk: smooth edges and text


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the catalogue.

    Attributes:
        product_id: ten characters, as ARMBench writes them.
        kind: "box", "carton", "pouch" or "bottle": the shape.
        brand: shared by the family.
        flavour: what tells it from its family.
        size_px: (width, height) of the texture, px.
        palette: main, dark and accent colour, shared by the family.
        tint: colour of the flavour's stripe and pictogram.
        height: how far it stands out of the tote's floor, part of its width.
    """

    product_id: str
    kind: str
    brand: str
    line: str
    flavour: str
    size_px: tuple[int, int]
    palette: tuple[Rgb, Rgb, Rgb]
    tint: Rgb
    height: float
    weight_kg: float
    dimensions_m: tuple[float, float, float]

    @property
    def title(self) -> str:
        """What a shop would call it."""
        return f"{self.brand.title()} {self.line.title()} {self.flavour.title()}"


_FAMILIES = (
    ("box", "NORDLY", "HERBAL TEA", (250, 340), ((36, 106, 98), (16, 56, 58), (240, 196, 92)),
     0.42, 0.11, (0.075, 0.070, 0.130)),
    ("carton", "KOPPI", "GROUND COFFEE", (370, 260), ((150, 44, 38), (72, 20, 24), (246, 224, 180)),
     0.30, 0.52, (0.180, 0.085, 0.125)),
    ("pouch", "ZESTA", "CRISPS", (250, 330), ((246, 188, 44), (190, 104, 20), (250, 248, 236)),
     0.16, 0.15, (0.190, 0.060, 0.270)),
    ("bottle", "MARLO", "SHOWER GEL", (150, 370), ((226, 232, 240), (40, 72, 138), (70, 140, 206)),
     0.34, 0.43, (0.062, 0.062, 0.205)),
)  # fmt: skip
_FLAVOURS: dict[str, tuple[tuple[str, Rgb], ...]] = {
    "box": (("MINT", (116, 196, 112)), ("LEMON", (244, 220, 74)), ("BERRY", (196, 70, 122))),
    "carton": (("MILD", (232, 176, 96)), ("STRONG", (58, 46, 46)), ("DECAF", (98, 150, 190))),
    "pouch": (("SALT", (70, 130, 206)), ("PAPRIKA", (206, 52, 40)), ("ONION", (86, 156, 72))),
    "bottle": (("OCEAN", (44, 120, 200)), ("ALOE", (92, 172, 96)), ("ROSE", (216, 96, 130))),
}


def catalogue() -> tuple[Product, ...]:
    """The twelve products, family by family. Always the same."""
    out: list[Product] = []
    for kind, brand, line, size, palette, height, weight, dims in _FAMILIES:
        for flavour, tint in _FLAVOURS[kind]:
            code = zlib.crc32(f"{brand} {flavour}".encode())
            pid = "B0" + "".join("0123456789BCDFGHJKLMNPQRSTVWXYZ"[code // 31**i % 31]
                                 for i in range(6)) + f"{len(out):02d}"  # fmt: skip
            out.append(
                Product(pid, kind, brand, line, flavour, size, palette, tint, height, weight, dims)
            )
    return tuple(out)


@functools.lru_cache(maxsize=32)
def texture(product: Product) -> Image:
    """Draw a product's front.

    Returns:
        (H, W, 4) uint8 RGBA of `product.size_px`, read-only; alpha 0 is outside the silhouette.
    """
    w, h = (OVER * s for s in product.size_px)
    art = _FRONTS[product.kind](product, w, h)
    alpha = _silhouette(product.kind, w, h)
    full = np.dstack([art, alpha])
    small = np.asarray(cv2.resize(full, product.size_px, interpolation=cv2.INTER_AREA), np.uint8)
    small.flags.writeable = False  # it is shared by every caller
    return small


def _box(p: Product, w: int, h: int) -> Image:
    main, dark, accent = p.palette
    art = gradient(w, h, main, dark)
    cv2.rectangle(art, (0, int(0.07 * h)), (w, int(0.27 * h)), PAPER, -1)
    cv2.rectangle(art, (0, int(0.265 * h)), (w, int(0.285 * h)), accent, -1)
    text(art, p.brand, (0.5 * w, 0.145 * h), 0.78 * w, dark, 3)
    text(art, p.line, (0.5 * w, 0.232 * h), 0.56 * w, main, 1)
    cv2.circle(art, (w // 2, int(0.47 * h)), int(0.25 * w), PAPER, -1, cv2.LINE_AA)
    cv2.circle(art, (w // 2, int(0.47 * h)), int(0.27 * w), accent, w // 60, cv2.LINE_AA)
    pictogram(art, p.flavour, (w // 2, int(0.47 * h)), int(0.17 * w), p.tint)
    _stripe(art, p, (0, int(0.69 * h), w, int(0.80 * h)))
    small_print(art, (0.07 * w, 0.85 * h), 0.40 * w, PAPER)
    barcode(art, p.product_id, (int(0.60 * w), int(0.835 * h), int(0.94 * w), int(0.96 * h)))
    return art


def _carton(p: Product, w: int, h: int) -> Image:
    main, dark, accent = p.palette
    art = gradient(w, h, main, dark)
    cv2.rectangle(art, (int(0.60 * w), 0), (w, h), accent, -1)
    cv2.rectangle(art, (int(0.585 * w), 0), (int(0.605 * w), h), p.tint, -1)
    text(art, p.brand, (0.29 * w, 0.25 * h), 0.48 * w, PAPER, 3)
    text(art, p.line, (0.29 * w, 0.42 * h), 0.46 * w, accent, 1)
    _stripe(art, p, (0, int(0.54 * h), int(0.585 * w), int(0.72 * h)))
    small_print(art, (0.05 * w, 0.80 * h), 0.34 * w, accent)
    cx, cy, r = int(0.77 * w), int(0.37 * h), int(0.105 * w)
    cv2.ellipse(art, (cx + r, cy), (r // 2, r // 2), 0, 0, 360, dark, r // 5, cv2.LINE_AA)
    cup = np.array([[-1, -0.8], [1, -0.8], [0.75, 0.9], [-0.75, 0.9]]) * r + (cx, cy)
    cv2.fillPoly(art, [cup.astype(np.int32)], dark, cv2.LINE_AA)
    cv2.ellipse(art, (cx, cy - int(0.8 * r)), (r, r // 4), 0, 0, 360, p.tint, -1, cv2.LINE_AA)
    barcode(art, p.product_id, (int(0.68 * w), int(0.72 * h), int(0.94 * w), int(0.93 * h)))
    return art


def _pouch(p: Product, w: int, h: int) -> Image:
    main, dark, accent = p.palette
    art = gradient(w, h, main, dark)
    _stripe(art, p, (0, int(0.52 * h), w, int(0.63 * h)), slant=0.10)
    cv2.ellipse(art, (w // 2, int(0.30 * h)), (int(0.42 * w), int(0.13 * h)), -8, 0, 360,
                accent, -1, cv2.LINE_AA)  # fmt: skip
    cv2.ellipse(art, (w // 2, int(0.30 * h)), (int(0.42 * w), int(0.13 * h)), -8, 0, 360,
                p.tint, w // 45, cv2.LINE_AA)  # fmt: skip
    text(art, p.brand, (0.5 * w, 0.275 * h), 0.58 * w, (170, 30, 34), 4)
    text(art, p.line, (0.5 * w, 0.362 * h), 0.32 * w, INK, 2)
    for i, (x, y) in enumerate(((0.27, 0.80), (0.45, 0.75), (0.38, 0.87))):
        chip = ((int(x * w), int(y * h)), (int(0.13 * w), int(0.065 * h)), 25 * i, 0, 360)
        cv2.ellipse(art, *chip, (252, 222, 130), -1, cv2.LINE_AA)
        cv2.ellipse(art, *chip, dark, w // 90, cv2.LINE_AA)
    pictogram(art, p.flavour, (int(0.74 * w), int(0.78 * h)), int(0.13 * w), p.tint)
    shade = np.ones((h, w), np.float32)
    across = np.linspace(0, 1, w, dtype=np.float32)[None]
    down = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    for centre, sway, gain in ((0.16, 0.04, 0.30), (0.55, -0.06, 0.16), (0.86, 0.05, -0.26)):
        ridge = across - centre - sway * np.sin(7 * down)
        shade += gain * np.exp(-((ridge / 0.05) ** 2))
    for edge in (slice(0, int(0.055 * h)), slice(int(0.945 * h), h)):  # crimped seals
        shade[edge] *= 0.88 + 0.12 * np.sign(np.sin(np.arange(w) * 2 * np.pi / (w / 40)))[None]
    return lit(art, shade)


def _bottle(p: Product, w: int, h: int) -> Image:
    main, dark, accent = p.palette
    art = np.full((h, w, 3), p.tint, np.uint8)
    art[int(0.17 * h) :] = np.asarray(main, np.uint8) * 0.55 + np.asarray(p.tint) * 0.45
    art[: int(0.135 * h)] = dark
    cv2.rectangle(art, (0, int(0.36 * h)), (w, int(0.84 * h)), PAPER, -1)
    cv2.rectangle(art, (0, int(0.36 * h)), (w, int(0.50 * h)), dark, -1)
    text(art, p.brand, (0.5 * w, 0.43 * h), 0.78 * w, PAPER, 4)
    text(art, p.line, (0.5 * w, 0.535 * h), 0.66 * w, accent, 2)
    pictogram(art, p.flavour, (w // 2, int(0.64 * h)), int(0.20 * w), p.tint)
    _stripe(art, p, (0, int(0.74 * h), w, int(0.81 * h)))
    across: NDArray[np.float32] = np.linspace(-1, 1, w, dtype=np.float32)
    shade: NDArray[np.float32] = (
        1.12 - 0.62 * across**2 + 0.35 * np.exp(-(((across + 0.45) / 0.10) ** 2))
    )
    ridges = np.ones((h, 1), np.float32)
    ridges[: int(0.135 * h)] += 0.10 * np.sin(np.arange(int(0.135 * h)) * 0.5)[:, None]
    return lit(art, shade[None] * ridges)


_FRONTS = {"box": _box, "carton": _carton, "pouch": _pouch, "bottle": _bottle}


def _silhouette(kind: str, w: int, h: int) -> Image:
    mask = np.zeros((h, w), np.uint8)
    if kind in ("box", "carton"):
        mask[:] = 255
    elif kind == "pouch":  # sides bend in, so that it looks filled; the seals are the widest
        y = np.linspace(0, 1, h)
        inset = 0.045 * w * np.sin(np.pi * y) + 0.012 * w * np.sin(11 * y)
        x = np.arange(w)[None]
        mask[(x >= inset[:, None]) & (x < (w - inset)[:, None])] = 255
    else:
        r = int(0.22 * w)
        rounded(mask, (0, int(0.19 * h), w, h), r)
        cv2.rectangle(mask, (int(0.24 * w), int(0.13 * h)), (int(0.76 * w), int(0.30 * h)), 255, -1)
        rounded(mask, (int(0.17 * w), 0, int(0.83 * w), int(0.135 * h)), int(0.05 * w))
    return mask


def _stripe(art: Image, p: Product, box: tuple[int, int, int, int], slant: float = 0.0) -> None:
    """The flavour's coloured stripe with its name."""
    x1, y1, x2, y2 = box
    d = int(slant * (x2 - x1))
    corners = np.array([[x1, y1 + d], [x2, y1 - d], [x2, y2 - d], [x1, y2 + d]], np.int32)
    cv2.fillPoly(art, [corners], p.tint, cv2.LINE_AA)
    ink = PAPER if sum(p.tint) < 420 else INK
    room = min(0.66 * (x2 - x1), 0.46 * (y2 - y1) * len(p.flavour))
    text(art, p.flavour, ((x1 + x2) / 2, (y1 + y2) / 2), room, ink, 3)
