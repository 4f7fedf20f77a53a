"""The body of a whole product: meshes to draw, solids to collide, segments that bend."""

from __future__ import annotations

from collections.abc import Callable

from robollm.sim.products import shapes_box, shapes_multi, shapes_round, shapes_soft
from robollm.sim.products.artwork import Atlas, atlas
from robollm.sim.products.multipack import unit_of, units
from robollm.sim.world import Body, Kind, Product

_MAKERS: dict[Kind, Callable[[Product, Atlas, int], Body]] = {
    "box": shapes_box.box,
    "carton": shapes_box.box,
    "book": shapes_box.book,
    "blister": shapes_box.blister,
    "polybag": shapes_soft.polybag,
    "pouch": shapes_soft.pouch,
    "clear_bag": shapes_soft.clear_bag,
    "bottle": shapes_round.bottle,
    "can": shapes_round.can,
    "tube": shapes_round.tube,
}


def whole(product: Product, seed: int) -> Body:
    """Make the body of an undamaged product.

    Args:
        product: of the catalogue.
        seed: 0 or more; copies of a product differ in wear, wrinkles and where labels stick.

    Raises:
        ConfigError: if no fonts are found.
    """
    make = _MAKERS[product.kind]
    if units(product) == 1:
        return make(product, atlas(product, seed), seed)
    printed = shapes_multi.printed(product, seed)
    return shapes_multi.multipack(product, make(unit_of(product), printed, seed), printed, seed)
