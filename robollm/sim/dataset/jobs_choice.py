"""What goes into a tote and onto its list: how many, which products, which tote. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robollm.data.armbench_segmentation import ZOOMED_OUT as ZOOMED_OUT_SET
from robollm.sim.physics.totes import TOTES, ZOOMED_OUT
from robollm.sim.world import Product, Tote

_MEDIAN_ITEMS, _SPREAD = 11.0, 0.7  # of a log-normal; ARMBench has 10.5 objects on average
_TOGETHER = 0.35  # chance that a product comes with one of its family
_TWICE = 0.12  # chance that a product comes as a second copy
_SMALL_TOTE_ITEMS = 12  # with more than this the large totes are taken
_FILLED = 0.33  # of a tote's volume, by bounding boxes; more doesn't find room
_ODD_MANIFESTS = 1 / 3


def item_count(rng: np.random.Generator, most: int) -> int:
    """How many items: 1 to `most`, few more often than many, with a long tail."""
    return int(np.clip(round(float(rng.lognormal(np.log(_MEDIAN_ITEMS), _SPREAD))), 1, most))


def choose_tote(rng: np.random.Generator, subset: str, items: int) -> Tote:
    """One of the totes that a set may show; those of the zoomed-out set are in no other."""
    totes = ZOOMED_OUT if subset == ZOOMED_OUT_SET else TOTES
    names = sorted(totes)
    if items > _SMALL_TOTE_ITEMS:
        names = [n for n in names if not n.endswith("small")] or names
    return totes[names[int(rng.integers(len(names)))]]


def families(products: Sequence[Product]) -> dict[str, list[Product]]:
    """The products of each family, in the catalogue's order."""
    out: dict[str, list[Product]] = {}
    for product in products:
        out.setdefault(product.family, []).append(product)
    return out


def choose_products(
    rng: np.random.Generator, products: Sequence[Product], count: int
) -> list[Product]:
    """Products for a tote: any, now and then one of the same family or a copy of the last."""
    kin = families(products)
    out: list[Product] = []
    while len(out) < count:
        chance = float(rng.random())
        if out and chance < _TWICE:
            out.append(out[-1])
        elif out and chance < _TWICE + _TOGETHER:
            family = kin[out[-1].family]
            out.append(family[int(rng.integers(len(family)))])
        else:
            out.append(products[int(rng.integers(len(products)))])
    return [out[int(i)] for i in rng.permutation(count)]


def that_fit(
    rng: np.random.Generator, chosen: Sequence[Product], products: Sequence[Product], tote: Tote
) -> list[Product]:
    """Replace the largest of the chosen products by smaller ones until all find room in a tote."""
    out = list(chosen)
    length, width, depth = tote.inner_m
    room = _FILLED * length * width * depth
    order = sorted(range(len(products)), key=lambda i: (_volume(products[i]), products[i].id))
    small = [products[i] for i in order[: max(1, len(order) // 4)]]
    for i in sorted(range(len(out)), key=lambda i: (-_volume(out[i]), i)):
        if sum(map(_volume, out)) <= room:
            break
        out[i] = small[int(rng.integers(len(small)))]
    return out


def _volume(product: Product) -> float:
    length, width, height = product.size_m
    return length * width * height


def choose_manifest(
    rng: np.random.Generator,
    products: Sequence[Product],
    target: Product,
    present: Sequence[Product],
    usual: int,
) -> list[Product]:
    """The products of a container's list.

    What lies in the tote is on it, and the target's family; then whole families follow, as a list
    without near-duplicates would be easy. Most lists have `usual` products, a third 2 to 100,
    and all at least what lies in the tote.

    Returns:
        Distinct products, ordered by id, which says nothing.
    """
    size = usual
    if rng.random() < _ODD_MANIFESTS:
        size = round(float(np.exp(rng.uniform(np.log(2), np.log(100)))))
    kin = families(products)
    inside = {p.id for p in present} | {target.id}
    wanted = [target, *present, *kin[target.family]]
    for i in rng.permutation(len(products)):
        if len(wanted) >= 4 * size + len(present):
            break
        wanted += kin[products[int(i)].family]
    chosen = list({p.id: p for p in wanted}.values())[: max(size, len(inside))]
    return sorted(chosen, key=lambda p: p.id)
