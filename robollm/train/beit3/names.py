"""Names of weights: those of published BEiT-3 files, and ours.

A published file holds two branches, A for vision and B for language, in the modules of
microsoft/torchscale. `vision_name` knows branch A; a mapping of branch B would stand beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Parts of `encoder.layers.i.`, in front of `.weight` and `.bias`.
_PARTS = {
    "self_attn_layer_norm.A": "norm1",
    "self_attn.q_proj.A": "attn.q",
    "self_attn.k_proj.A": "attn.k",
    "self_attn.v_proj.A": "attn.v",
    "self_attn.inner_attn_ln.A": "attn.inner_norm",
    "self_attn.out_proj.A": "attn.proj",
    "final_layer_norm.A": "norm2",
    "ffn.A.fc1": "mlp.fc1",
    "ffn.A.ffn_layernorm": "mlp.norm",
    "ffn.A.fc2": "mlp.fc2",
}
_SINGLE = {
    "vision_embed.cls_token": "cls_token",
    "vision_embed.proj.weight": "patch_embed.weight",
    "vision_embed.proj.bias": "patch_embed.bias",
    "encoder.embed_positions.A.weight": "pos_embed",
    "encoder.layer_norm.A.weight": "norm.weight",
    "encoder.layer_norm.A.bias": "norm.bias",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")

HEADS = "heads"
PUBLISHED_POSITIONS = "encoder.embed_positions.A.weight"
PUBLISHED_FIRST_ROW = 2
"""Rows 0 and 1 of the published position tables are unused; 2 is CLS, then the patches."""


def vision_name(published: str) -> str | None:
    """Our name of a published weight of the vision branch, or None if it is not one of it.

    Args:
        published: a name without `beit3.` in front.
    """
    layer = _LAYER.fullmatch(published)
    if layer and layer[2] in _PARTS:
        return f"blocks.{layer[1]}.{_PARTS[layer[2]]}.{layer[3]}"
    return _SINGLE.get(published)


def published_name(ours: str) -> str:
    """The inverse of `vision_name`, for messages; an unknown name stays as it is."""
    block = _BLOCK.fullmatch(ours)
    for published, own in _PARTS.items():
        for kind in ("weight", "bias"):
            if block and block[2] == f"{own}.{kind}":
                return f"encoder.layers.{block[1]}.{published}.{kind}"
    return {own: published for published, own in _SINGLE.items()}.get(ours, ours)


def reason_to_drop(published: str) -> str | None:
    """Why a weight of a published file has no place here; None if it should have one.

    Args:
        published: a name without `beit3.` in front, unknown to `vision_name`.
    """
    if ".B." in published or published.startswith("text_embed."):
        return "language branch (B)"
    if published == "vision_embed.mask_token":
        return "mask token of the pre-training"
    if published.startswith(("vision_embed.", "encoder.")):
        return None
    return HEADS


def needed(depth: int) -> set[str]:
    """Our names of all weights of an encoder of `depth` blocks."""
    kinds = ("weight", "bias")
    names = set(_SINGLE.values())
    for i in range(depth):
        names |= {f"blocks.{i}.{own}.{kind}" for own in _PARTS.values() for kind in kinds}
    return names


def depth_of(ours: Iterable[str]) -> int:
    """Number of blocks that names such as `blocks.3.norm1.weight` speak of."""
    blocks = [int(m[1]) for name in ours if (m := _BLOCK.fullmatch(name))]
    return max(blocks, default=-1) + 1
