"""The catalogue: products of ten kinds, most of them in families of near-duplicates.

The products of a family share brand, palette and layout; a word, a pictogram and a small accent
differ, or the size, or the count: some families have multipacks of their single units. A split
has brands, ids and families of its own, whatever the seed, so nothing of one split is ever seen
in another.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.products import catalogue_words as words
from robollm.sim.products.catalogue_shapes import LONGEST, pack_of, pack_room, shape_of
from robollm.sim.products.multipack import PACKABLE, WORDS, packed, units
from robollm.sim.world import SPLITS, Kind, Product, Split

VERSION = 2
"""Goes up whenever the same seed starts to mean other products."""

_KIND_DECK: tuple[Kind, ...] = (
    *(("box",) * 6), *(("carton",) * 5), *(("polybag",) * 4), *(("pouch",) * 4),
    *(("clear_bag",) * 3), *(("bottle",) * 3), *(("book",) * 2), *(("blister",) * 2),
    *(("can",) * 2), "tube",
)  # fmt: skip
_FAMILY_DECKS = ((1, 1, 1, 1, 2, 3, 4), (1, 1, 1, 1, 1, 2, 3, 6), (1, 1, 1, 1, 4, 5))
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BRANDS = 5  # per line of goods
_PACK_NOTE = {
    "film": "{} of {} units in clear film. ",
    "band": "{} of {} units in a printed band. ",
    "both": "{} of {} units in clear film with a printed band. ",
}
_PACKED = 0.075  # share of the families that have multipacks


def make_catalogue(seed: int, count: int, split: Split) -> tuple[Product, ...]:
    """Make the products of a split.

    A smaller catalogue of the same seed and split is the beginning of a larger one. From 30
    products on all ten kinds are there; more than half of the products have near-duplicates.

    Args:
        seed: 0 or more; other seeds give other products.
        count: how many, at least 1.
        split: whose products; no split shares a product, family or brand with another.

    Raises:
        ConfigError: if an argument is out of range.
    """
    if seed < 0 or count < 1:
        raise ConfigError(f"seed is {seed} and count {count}, want seed >= 0 and count >= 1")
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}", fix=f"use one of {', '.join(SPLITS)}")
    products: list[Product] = []
    for number, (kind, size, many) in enumerate(_plan(seed, split)):
        products += _family(seed, split, number, kind, size, many)
        if len(products) >= count:
            break
    return tuple(products[:count])


def rows(products: Sequence[Product]) -> list[dict[str, Any]]:
    """Return what a store knows of products, one row each, as in ARMBench's container.json."""
    return [
        {
            "id": p.id,
            "title": p.title,
            "description": p.description,
            "weight_kg": p.weight_kg,
            "dimensions_m": list(p.size_m),
            "family": p.family,
            "kind": p.kind,
            "units": units(p),
        }
        for p in products
    ]


def _rng(seed: int, split: Split, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, seed, SPLITS.index(split), *numbers])


def _plan(seed: int, split: Split) -> Iterator[tuple[Kind, int, int]]:
    """Yield kind, size and units per multipack (1: it has none) of family after family."""
    rng = _rng(seed, split, 0)
    kinds: list[Kind] = []
    sizes: list[int] = []
    alone = together = 0
    due = float(rng.random())  # multipacks
    first_round = True
    while True:
        if not kinds:
            kinds = [_KIND_DECK[int(i)] for i in rng.permutation(len(_KIND_DECK))]
            if first_round:  # every kind once before any comes twice, for small catalogues
                early = list(dict.fromkeys(kinds))
                for kind in early:
                    kinds.remove(kind)
                kinds = early + kinds
                first_round = False
        if not sizes:
            deck = _FAMILY_DECKS[int(rng.integers(len(_FAMILY_DECKS)))]
            sizes = [deck[int(i)] for i in rng.permutation(len(deck))]
        # Never let the lonely ones lead, so that every beginning of the catalogue is hard too.
        pick = 0 if alone < together else int(np.argmax([s > 1 for s in sizes]))
        size = sizes.pop(pick)
        alone, together = (alone + 1, together) if size == 1 else (alone, together + size)
        kind, many = kinds.pop(0), 1
        due += _PACKED
        if due >= 1 and kind in PACKABLE and size > 1:
            due, many = due - 1, 2 + int(rng.integers(4) == 0)
        yield kind, size, many


def _code(split: Split, *numbers: int) -> str:
    """Return eight of 0-9 A-Z. The first one tells the split, so codes of two can't be equal."""
    digest = hashlib.blake2b(f"{VERSION}:{split}:{numbers}".encode(), digest_size=8).digest()
    value = int.from_bytes(digest, "big")
    code = _LETTERS[SPLITS.index(split) * 12 + value % 12]
    for _ in range(7):
        value //= 36
        code += _LETTERS[value % 36]
    return code


def _brand(seed: int, split: Split, line: int, number: int) -> dict[str, Any]:
    """Make a brand: its name, which only this split can have, and its house style."""
    rng = _rng(seed, split, 1, line, number)

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    while True:
        syllables = range(2 + int(rng.integers(5) == 0))
        name = "".join(pick(words.ONSETS) + pick(words.VOWELS) for _ in syllables)
        name = (name + pick(words.CODAS)).capitalize() + pick(words.ENDINGS)
        if zlib.crc32(name.encode()) % len(SPLITS) == SPLITS.index(split):
            break
    faces = ("bold", "oblique", "condensed_bold", "serif_bold", "serif_italic", "light",
             "serif_condensed", "mono_bold", "condensed_oblique")  # fmt: skip
    return {
        "brand": name,
        "logo_face": pick(faces),
        "face": pick(("bold", "condensed_bold", "serif_bold", "sans", "serif_condensed")),
        "mark": pick(words.MARKS),
        "upper": bool(rng.integers(2)),
        "palettes": [pick(words.PALETTE_DECK) for _ in range(2)],
        "city": pick(words.CITIES),
    }


def _family(
    seed: int, split: Split, number: int, kind: Kind, size: int, many: int
) -> list[Product]:
    """Make the products of one family; `many` > 1: about half are multipacks of the others."""
    rng = _rng(seed, split, 2, number)

    def below(n: int) -> int:
        return int(rng.integers(n))

    able = [i for i, line in enumerate(words.LINES) if kind in line.kinds]
    which = able[below(len(able))]
    line = words.LINES[which]
    brand = _brand(seed, split, which, below(_BRANDS))
    palette = brand["palettes"][below(2)]
    if kind == "carton" and below(10) < 7:
        palette = "kraft"
    if kind == "polybag":
        palette = words.MAILERS[below(len(words.MAILERS))]
    if palette == "kraft" and kind in ("bottle", "can", "tube", "book", "blister"):
        palette = "white_green"  # paper's own colour, on what isn't paper
    packs = size // 2 if many > 1 else 0
    size -= packs
    mode = ("variant", "variant", "variant", "amount")[below(4)]
    if size > len(line.amounts) or kind == "book":
        mode = "variant"
    variants = [line.variants[int(i)] for i in rng.permutation(len(line.variants))[:size]]
    variants += variants[:1] * (size - len(variants))
    amount = below(len(line.amounts))
    base = shape_of(kind, rng)
    if line.name == "textile":
        base.details["things"] = 0  # folded cloth is a block
    inks = [words.INKS[int(i)] for i in rng.permutation(len(words.INKS))]
    look: dict[str, Any] = {
        **{k: v for k, v in brand.items() if k != "palettes"},
        "line": line.name,
        "palette": list(words.PALETTES[palette]),
        "ground": palette,
        "layout": below(10),
        "dressing": below(6),
        "motif": line.motifs[below(len(line.motifs))],
        "name": line.goods[below(len(line.goods))],
        "claims": [line.claims[int(i)] for i in rng.permutation(len(line.claims))[:3]],
        "art": below(2**31),
        "portrait": bool(below(3)),
    }
    density = line.density * (0.8 + 0.4 * float(rng.random()))
    first = amount if mode == "variant" else max(0, len(line.amounts) - size)
    # Smallest and largest lie around the drawn size, and none is too long for its kind.
    whole = _growth(line.amounts[first : first + size]) if mode == "amount" else 1.0
    unit = min(whole**-0.5, LONGEST[kind] / (base.size_m[0] * whole))
    along, wrap = pack_of(base, kind, many, rng) if packs else (0, "")
    if packs:
        unit = min(unit, pack_room(base, along, many) / whole)
    members: list[Product] = []
    for i in range(size):
        variant, sign = variants[i] if mode == "variant" else variants[0]
        grade = first if mode == "variant" else first + i
        text = line.amounts[grade]
        shape = base.scaled(_growth(line.amounts[first : grade + 1]) * unit)
        weight = shape.fill * density * float(np.prod(shape.size_m))
        code = _code(split, seed, number, i)
        members.append(
            Product(
                id=f"B0{code}",
                family=f"F{_code(split, seed, number)}",
                kind=kind,
                brand=brand["brand"],
                title=f"{brand['brand']} {look['name']}, {variant}, {text}",
                description=_description(look, kind, variant, text, shape.size_m),
                size_m=shape.size_m,
                weight_kg=round(float(np.clip(weight, 0.015, 4.5 / many)), 3),
                split=split,
                look={
                    **look,
                    "variant": variant,
                    "sign": sign,
                    "ink": inks[i if mode == "variant" else 0],
                    "amount": text,
                    "ean": _ean(code),
                    "shape": shape.details,
                },
            )
        )
    for i in range(packs):
        code = _code(split, seed, number, size + i)
        sold = {"units": many, "along": along, "wrap": wrap, "ean": _ean(code)}
        bundle = packed(members[i], f"B0{code}", sold)
        about = _description(look, kind, members[i].look["variant"], bundle.look["amount"],
                             bundle.size_m, _PACK_NOTE[wrap].format(WORDS[many], many))  # fmt: skip
        members.append(replace(bundle, description=about))
    return members


def _growth(amounts: Sequence[str]) -> float:
    """Return how much longer than the first amount's package the last one's is."""
    return float((_quantity(amounts[-1]) / _quantity(amounts[0])) ** (1 / 3))


def _quantity(text: str) -> float:
    found = re.match(r"(\d+) (\w+)", text)
    value = float(found[1]) if found else 1.0
    return value * 1000 if found and found[2] in ("kg", "L") else value


def _ean(code: str) -> str:
    """Return the 13 digits of an EAN-13 of our own making, check digit included."""
    digits = f"20{int(code, 36) % 10**10:010d}"
    total = sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(digits))
    return digits + str(-total % 10)


def _description(
    look: dict[str, Any],
    kind: Kind,
    variant: str,
    amount: str,
    size: tuple[float, float, float],
    note: str = "",
) -> str:
    cm = " x ".join(f"{100 * v:.1f}" for v in size)
    claims = ". ".join(look["claims"][:2])
    return (
        f"{look['name']} by {look['brand']}. {variant}, {amount}. {claims}. {note}"
        f"Comes as {kind.replace('_', ' ')}, {cm} cm."
    )
