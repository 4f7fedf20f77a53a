"""The body of every form of every product; made once, kept while there is room."""

from __future__ import annotations

from functools import lru_cache

from robollm.sim.products import damage, shapes
from robollm.sim.world import WHOLE, Body, Form, Product


@lru_cache(maxsize=96)
def body_of(product: Product, form: Form = WHOLE) -> Body:
    """Return the body of a product in a form. Same arguments, same vertices and pixels."""
    if form.kind == "whole":
        return shapes.whole(product, form.seed)
    if form.kind == "closed":
        return damage.closed(product, form.seed, form.severity)
    if form.kind == "open":
        return damage.opened(product, form.seed, form.severity)
    return damage.content(product, form.seed, form.severity, form.piece)
