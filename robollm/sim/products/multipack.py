"""Multipacks: two or three units of a product, side by side, sold as one.

A multipack is one product and one rigid body. Its kind, shape details and print are the unit's;
`look["units"]` says how many there are, `look["unit"]` holds what else the units need. What is
sold as a single unit has no such keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robollm.sim.geometry import F64, compose, matrix, quaternion, turn
from robollm.sim.world import Kind, Pose, Product, Quat, Vec3

PACKABLE: tuple[Kind, ...] = ("box", "carton", "bottle", "can")
"""The kinds of units: stiff ones, so that a pack is stiff."""
FILM_M = 0.0005  # how far the film lies outside of the units
WORDS = {2: "Twin pack", 3: "Triple pack"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where units are in a pack.

    `places`: each unit's frame in the bundle's frame, which has the units' axes and the origin at
    the centre of all; `turned`: the bundle's frame in the pack's; `size_m`: of the pack;
    `upright`: whether the units' print has its top at the pack's +x, not at +y.
    """

    places: tuple[Pose, ...]
    turned: Quat
    size_m: Vec3
    upright: bool


def units(product: Product) -> int:
    """Return how many units a product consists of; 1 unless it is a multipack."""
    return int(product.look.get("units", 1))


def unit_of(product: Product) -> Product:
    """Return one unit of a multipack, as it would be sold alone; another product as it is."""
    if units(product) == 1:
        return product
    unit = product.look["unit"]
    look = {k: v for k, v in product.look.items() if k not in ("units", "unit")}
    x, y, z = unit["size_m"]
    return replace(
        product,
        title=product.title.replace(product.look["amount"], unit["amount"]),
        size_m=(x, y, z),
        weight_kg=product.weight_kg / units(product),
        look={**look, "amount": unit["amount"], "ean": unit["ean"]},
    )


def stands(product: Product) -> bool:
    """Say whether the front reads along the product's width, its top at +x."""
    if units(product) > 1:
        return bundle(product).upright
    if product.kind in ("pouch", "clear_bag", "blister", "book"):
        return True
    return bool(product.look["portrait"]) and product.size_m[1] < 0.9 * product.size_m[0]


def packed(unit: Product, id: str, look: dict[str, Any]) -> Product:
    """Return a multipack.

    Args:
        unit: what it consists of.
        id: of the pack.
        look: `units`: how many (2 or 3); `along`: the unit's axis (0 to 2) along which they lie;
            `wrap`: film, band or both; `ean`: the pack's own.
    """
    many = int(look["units"])
    amount = f"{many} x {unit.look['amount']}"
    pack = replace(
        unit,
        id=id,
        title=unit.title.replace(unit.look["amount"], amount),
        weight_kg=round(many * unit.weight_kg, 3),
        look={
            **unit.look,
            "amount": amount,
            "ean": look["ean"],
            "units": many,
            "unit": {
                "size_m": list(unit.size_m),
                "amount": unit.look["amount"],
                "ean": unit.look["ean"],
                "along": look["along"],
                "wrap": look["wrap"],
            },
        },
    )
    return replace(pack, size_m=bundle(pack).size_m)


def bundle(product: Product) -> Bundle:
    """Lay out a multipack's units: a small gap between them, none quite straight."""
    unit = product.look["unit"]
    rng = np.random.default_rng([31, product.look["art"], units(product)])
    along = int(unit["along"])
    half = np.asarray(unit["size_m"], np.float64) / 2
    round_ = product.kind == "can" or (product.kind == "bottle" and abs(half[1] - half[2]) < 1e-9)
    flat = product.kind == "can" and product.look["shape"]["flat"]
    places: list[Pose] = []
    low, high, end = np.full(3, np.inf), np.full(3, -np.inf), 0.0
    most = min(0.006, 0.00035 / float(half.max()))  # rad; film stays close to long sides
    for _ in range(units(product)):
        q = turn((0.0, 0.0, 1.0), float(rng.uniform(-most, most)))
        about = turn((0.0, 0.0, 1.0) if flat else (1.0, 0.0, 0.0), float(rng.normal(0, 0.25)))
        reach = half if flat else np.abs(matrix(q)) @ half
        if round_:
            q = about if flat else compose(Pose(quaternion=q), Pose(quaternion=about)).quaternion
        at = rng.uniform(-0.0002, 0.0002, 3) * (product.kind != "bottle")
        at[along] = end + reach[along]
        end += 2 * reach[along] + float(rng.uniform(0.0015, 0.003))
        low, high = np.minimum(low, at - reach), np.maximum(high, at + reach)
        places.append(Pose((float(at[0]), float(at[1]), float(at[2])), q))
    cx, cy, cz = (float(v) for v in -(low + high) / 2)
    back = Pose((cx, cy, cz))
    turned, upright = _sorted(unit_of(product), high - low)
    size = np.abs(matrix(turned)) @ (high - low + 2 * FILM_M)
    x, y, z = (round(float(v), 4) for v in size)
    return Bundle(tuple(compose(back, p) for p in places), turned, (x, y, z), upright)


def _sorted(unit: Product, size: F64) -> tuple[Quat, bool]:
    """Turn the longest side to x, the shortest to z, and print as upright as can be.

    Returns:
        The turn, and whether the print's top is at +x.
    """
    order = [int(i) for i in np.argsort(-np.round(size, 5), kind="stable")]
    flat = unit.kind == "can" and unit.look["shape"]["flat"]
    if flat:
        top = 0 if order[2] == 2 else 2  # of the lid's print, or of the side's
    elif order[2] != 2:
        top = 2  # of the sides of a box
    else:
        top = 0 if (unit.kind != "box" and unit.kind != "carton") or stands(unit) else 1
    rows = np.eye(3)[order]  # row i: which of the unit's axes becomes axis i
    if np.linalg.det(rows) < 0:
        # One axis has to be turned round: not the one to the viewer, not the print's top.
        other = next(i for i in (1, 0) if order[i] != top)
        rows[other] *= -1
    return quaternion(rows), order.index(top) == 0
