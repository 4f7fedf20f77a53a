"""The texture of a package: every face printed, worn a little, and packed into one picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

from robollm.sim.products import artwork_back as other
from robollm.sim.products.artwork_blocks import Style, inner
from robollm.sim.products.artwork_front import compact, front
from robollm.sim.products.artwork_pack import GAP, Rect, pack
from robollm.sim.products.artwork_pen import Pen, mix
from robollm.sim.products.artwork_wear import worn
from robollm.sim.products.multipack import stands
from robollm.sim.world import U8, Kind, Product

THINGS = ((214, 210, 202), (58, 60, 66), (196, 74, 60), (74, 112, 168), (222, 184, 84),
          (172, 176, 182), (104, 148, 96), (226, 224, 220))  # fmt: skip
"""Colours of the things in clear packages."""
SIDE = 512
"""Side of a texture, px."""
_OVER = 2  # print is drawn so much larger, and shrunk
_STIFF = ("box", "carton", "book", "blister")
_CREASED = {"polybag": 0.75, "pouch": 0.5}

Sizes = dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """A texture uint8 [SIDE, SIDE, 3] RGB, and where in it each face of the package is."""

    texture: U8
    faces: dict[str, Rect]


def atlas(product: Product, seed: int, more: Sizes | None = None) -> Atlas:
    """Print a product. `seed` makes copies differ: in wear, and in where labels were stuck.

    Args:
        product: a single unit.
        seed: 0 or more.
        more: further faces, m: `wrapper`, what is printed on the band of a multipack.
    """
    faces = pack({**face_sizes(product), **(more or {})}, SIDE)
    rng = np.random.default_rng([11, seed, product.look["art"]])
    amount = float(rng.beta(1.2, 3.0))
    look = product.look
    ground = Style.of(look).ground
    texture: U8 = np.full((SIDE, SIDE, 3), ground, np.uint8)
    for number, (name, rect) in enumerate(sorted(faces.items())):
        pen = _print(product, name, number, rect, seed)
        image: U8 = np.asarray(pen)
        image = np.asarray(
            cv2.resize(image, (rect.width, rect.height), interpolation=cv2.INTER_AREA)
        )
        creased = _CREASED.get(product.kind, 0.0) if name in ("front", "back") else 0.0
        image = worn(image, rng, amount, edges=product.kind in _STIFF, creased=creased)
        pad = GAP // 2
        x, y = rect.x - pad, rect.y - pad
        texture[y : y + rect.height + 2 * pad, x : x + rect.width + 2 * pad] = cv2.copyMakeBorder(
            image, pad, pad, pad, pad, cv2.BORDER_REPLICATE
        )
    return Atlas(texture, faces)


def face_sizes(product: Product) -> Sizes:
    """Return width and height (m) of every face that is printed, by name."""
    return _SIZES[product.kind](*product.size_m, product.look["shape"])


def _six(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    return {"front": (x, y), "back": (x, y), "south": (x, z), "north": (x, z), "east": (y, z),
            "west": (y, z)}  # fmt: skip


def _book(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    return {"front": (x, y), "back": (x, y), "spine": (x, z), "pages": (0.5 * x, z)}


def _two(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    return {"front": (x, y), "back": (x, y)}


def _clear(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    return {"front": (0.34 * x, y), "back": (0.34 * x, y), "thing": (0.2 * x, 0.2 * x)}


def _blister(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    return {"front": (x, y), "back": (x, y), "thing": (0.4 * x, 0.3 * y)}


def _bottle(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    girth = math.pi * z + 2 * (y - z)
    return {"wrap": (girth, 0.5 * x), "body": (0.3 * y, 0.3 * y), "cap": (0.5 * y, 0.2 * y)}


def _can(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    across, high = (x, z) if shape["flat"] else (y, x)
    return {"wrap": (math.pi * across, high), "lid": (across, across), "metal": (0.2 * x, 0.1 * x)}


def _tube(x: float, y: float, z: float, shape: dict[str, Any]) -> Sizes:
    return {"wrap": (2 * y, x), "cap": (y, 0.3 * y)}


_SIZES: dict[Kind, Callable[[float, float, float, dict[str, Any]], Sizes]] = {
    "box": _six, "carton": _six, "book": _book, "polybag": _two, "pouch": _two,
    "clear_bag": _clear, "blister": _blister, "bottle": _bottle, "can": _can, "tube": _tube,
}  # fmt: skip


def _print(product: Product, face: str, number: int, rect: Rect, seed: int) -> Image.Image:
    """Print one face, larger than it will be by `_OVER`."""
    kind = product.kind
    size = (_OVER * rect.width, _OVER * rect.height)
    upright = stands(product) and face in ("front", "back", "spine")
    if face != "wrapper" and (
        face in ("front", "back", "spine", "wrap", "lid") or kind in ("box", "carton")
    ):
        pen = _drawn(_Key(product), face, number, size[::-1] if upright else size)
        image = pen.image.copy()
    else:
        image = _plain(product, face, size)
    if kind in ("carton", "polybag") and face in ("front", "back"):
        image = _dressed(product, image, face, seed)
    return image.transpose(Image.Transpose.ROTATE_270) if upright else image


def _is_plain(product: Product) -> bool:
    """Say whether the package is printed in one ink, and told by its stickers."""
    grounds = ("kraft", "grey")
    return product.kind == "polybag" or (
        product.kind == "carton" and product.look["ground"] in grounds
    )


def _is_round(product: Product) -> bool:
    shape = product.look["shape"]
    return product.kind == "can" or (product.kind == "bottle" and not shape["oval"])


class _Key:
    """A product as a key of the cache: its id says all that print depends on, bar its size."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.value = (product.id, product.size_m)

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.value == other.value


@lru_cache(maxsize=16)
def _drawn(key: _Key, face: str, number: int, size: tuple[int, int]) -> Pen:
    """Draw what all copies of a product have in common."""
    look = key.product.look
    s = Style.of(look)
    pen = Pen(size, s.ground)
    w, h = size
    if face == "wrap":
        other.back(half := Pen((round(0.42 * w), h), s.ground), look)
        cut = half.width // 2
        pen.image.paste(half.image.crop((cut, 0, half.width, h)), (0, 0))
        pen.image.paste(half.image.crop((0, 0, cut, h)), (w - cut, 0))
        left = 0.34 if _is_round(key.product) else 0.28  # what is seen from above
        front(pen, look, (left * w, 0.0, (1 - left) * w, float(h)))
    elif face == "lid":
        if key.product.look["shape"]["flat"]:
            front(pen, look, (0.12 * w, 0.12 * h, 0.88 * w, 0.88 * h))
        else:
            pen.fill((0, 0, w, h), (178, 181, 184))
            pen.draw.ellipse((0.2 * w, 0.2 * h, 0.8 * w, 0.8 * h), outline=(130, 134, 138), width=4)
            pen.draw.rectangle(
                (0.42 * w, 0.3 * h, 0.58 * w, 0.5 * h), outline=(120, 124, 128), width=4
            )
    elif _is_plain(key.product):
        other.kraft(pen, look, large=face in ("front", "back"))
    elif face == "front" and key.product.kind == "blister":
        pen.fill((0, 0, w, h), s.ground)  # most of it is behind the bubble
        other.spots(pen, look, mix(s.ground, s.second, 0.35))
        compact(pen, look, (0.0, 0.0, float(w), 0.42 * h))
    elif face in ("front", "back"):
        draw = front if face == "front" else other.back
        if key.product.kind != "pouch":
            draw(pen, look)
        else:  # nothing to read where the film turns down to the seams
            low = Pen((round(0.86 * w), round(0.84 * h)), s.ground)
            draw(low, look)
            x, y = (w - low.width) // 2, round(0.11 * h)
            spread = cv2.copyMakeBorder(
                np.asarray(low.image), y, h - low.height - y, x, w - low.width - x,
                cv2.BORDER_REPLICATE,
            )  # fmt: skip
            pen.image.paste(Image.fromarray(spread))
    elif face in ("south", "north", "spine"):
        other.side(pen, look, number)
    else:
        other.end(pen, look, number)
    return pen


def _plain(product: Product, face: str, size: tuple[int, int]) -> Image.Image:
    """Draw paper edges, caps, bare metal, the thing in a bag."""
    s = Style.of(product.look)
    w, h = size
    pen = Pen(size, s.ground)
    if face == "pages":
        pen.fill((0, 0, w, h), (232, 226, 210))
        for y in range(0, h, 3):
            pen.fill((0, y, w, y), (214, 206, 188) if y % 2 else (222, 215, 198))
    elif face == "cap":
        pen.fill((0, 0, w, h), s.second)
        for x in range(0, w, 8):
            pen.fill((x, 0, x + 2, h), mix(s.second, (0, 0, 0), 0.22))
    elif face == "body":
        paint = (s.ground, s.second, mix(s.ground, s.light, 0.6))[product.look["dressing"] % 3]
        pen.fill((0, 0, w, h), paint)
    elif face == "wrapper":
        other.banner(pen, product.look)
    elif face == "metal":
        pen.gradient((0, 0, w, h), (206, 208, 210), (150, 153, 156))
    elif face == "thing":
        paint = THINGS[product.look["art"] % len(THINGS)]
        pen.gradient((0, 0, w, h), mix(paint, (255, 255, 255), 0.3), mix(paint, (0, 0, 0), 0.1))
        pen.fill((0, 0.44 * h, w, 0.56 * h), mix(paint, s.spot, 0.8))
    return pen.image


def _dressed(product: Product, image: Image.Image, face: str, seed: int) -> Image.Image:
    """Stick tape and labels on, each copy a little differently."""
    look = product.look
    rng = np.random.default_rng([12, look["art"], seed, int(face == "front")])
    w, h = image.size
    pen = Pen((w, h), (0, 0, 0))
    pen.image.paste(image)
    plain = _is_plain(product)
    if product.kind == "carton" and plain:
        paint = (196, 166, 118) if look["dressing"] < 3 else (222, 220, 212)
        strip = round(0.14 * min(w, h))
        top = round(h * (0.5 + 0.02 * float(rng.standard_normal()))) - strip // 2
        below = pen.image.crop((0, top, w, top + strip))
        tape = Image.blend(below, Image.new("RGB", below.size, paint), 0.6)
        pen.image.paste(tape, (0, top))
    first, last = (0, 2 if face == "front" else 1) if plain else (1, 2)
    for i in range(first, last if plain or look["dressing"] % 2 else first):
        wide = (0.42 if plain else 0.3) * min(w, 1.5 * h)
        label = Pen((round(wide), round(0.68 * wide)), (246, 246, 244))
        whole = (0.0, 0.0, float(label.width), float(label.height))
        if i == 0:
            other.sticker(label, look, whole)
        else:
            other.address(label, look, inner(whole, 0.0), seed)
        turn = float(rng.normal(0, 3))
        mask = Image.new("L", label.image.size, 255).rotate(turn, expand=True)
        turned = label.image.rotate(turn, Image.Resampling.BILINEAR, expand=True)
        left = 0.05 if i == 0 else 0.94 - turned.width / w
        down = 0.93 - turned.height / h if (look["dressing"] + i) % 2 else 0.06
        left += float(rng.uniform(-0.02, 0.03))
        down += float(rng.uniform(-0.03, 0.03))
        pen.image.paste(turned, (round(w * left), round(h * down)), mask)
    return pen.image
