"""The small graphs on the shared backbone: product embeddings, defect logits, pooled regions.

Their weights are plain arrays, shaped as PyTorch keeps them; names of the trained heads' parts
are given in brackets (`robollm.train.identification.head`, `robollm.train.defects.head`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from robollm.core.errors import ConfigError
from robollm.export.graphs import Array, Graph

SHORTEST = 1e-6
ABSENT = -3e4
"""Stands for what isn't there under a maximum or softmax; float16 can hold it."""
REGION = 7
POOLS = ("mean", "max", "attention")
Linear = tuple[Array, Array]
"""Weight (O, I) and bias (O,), float32."""


def build_identification(
    weight: Array, bias: Array | None = None, *, pool: str = "cls", features: bool = False
) -> onnx.ModelProto:
    """BEiT-3 retrieval: a linear projection of CLS or of the mean token, brought to length 1.

    Args:
        weight: (D, C) float32 (`projection`).
        bias: (D,) float32; the trained head has none.
        pool: "cls" or "mean" (`pool`).
        features: whether what is projected is an output, too.

    Returns:
        A model. Input `cls` (N, C) or, for the mean, `map` (N, C, h, w) float32. Outputs
        `embedding` (N, D) float32, L2 norm 1; a projection of length 0 stays 0, so nothing is
        ever NaN; and `features` (N, C) float32 if wanted.

    Raises:
        ConfigError: there is no such pool.
    """
    g = Graph("identification")
    dim = weight.shape[1]
    out = "features" if features else ""
    if pool == "cls":
        x = g.input("cls", ["N", dim])
        x = g.op("Identity", x, out=out) if features else x
    elif pool == "mean":
        x = g.input("map", ["N", dim, "h", "w"])
        x = g.op("ReduceMean", x, axes=[2, 3], keepdims=0, out=out)
    else:
        raise ConfigError(f"pool is {pool!r}", fix="use 'cls' or 'mean'")
    _embed(g, x, weight, bias)
    if features:
        g.output("features", ["N", dim])
    return g.model()


def build_fusion(
    missing: Array, first: Linear, second: Linear, projection: Array
) -> onnx.ModelProto:
    """The features of a pick's views to one embedding.

    Args:
        missing: (V, C) float32, what stands for a view that isn't there (`missing`).
        first: (H, V*C) and (H,) (`fusion.0`).
        second: (C, H) and (C,) (`fusion.2`).
        projection: (D, C) float32, the same as in `build_identification`.

    Returns:
        A model. Inputs `features` (N, V, C) float32 and `present` (N, V) float32, 0 or 1; what
        stands in absent views doesn't matter. Output `embedding` (N, D) float32, L2 norm 1. A
        row without any view gets an embedding, too, which means nothing.
    """
    g = Graph("fusion")
    views, dim = missing.shape
    x = g.input("features", ["N", views, dim])
    there = _there(g, g.input("present", ["N", views]), views)
    x = g.op("Where", there, x, g.const(missing, "missing"))
    x = g.op("Reshape", x, g.ints(-1, views * dim))
    x = g.gelu(g.linear(x, *first, "fusion.0"))
    _embed(g, g.linear(x, *second, "fusion.2"), projection, None)
    return g.model()


def _embed(g: Graph, x: str, weight: Array, bias: Array | None) -> None:
    x = g.linear(x, weight, bias, "projection")
    length = g.op("Max", g.op("ReduceL2", x, axes=[1], keepdims=1), g.scalar(SHORTEST))
    g.op("Div", x, length, out="embedding")
    g.output("embedding", ["N", len(weight)])


def _there(g: Graph, present: str, count: int) -> str:
    """(N, count) float32, 0 or 1, to (N, count, 1) bool."""
    present = g.op("Reshape", present, g.ints(-1, count, 1))
    return g.op("Greater", present, g.scalar(0.5))


@dataclass(frozen=True, slots=True)
class Compare:
    """What a defect head adds to its logits for crop features f and reference features r.

    Attributes:
        no_reference: (C,) float32, stands for r where there is none (`no_reference`).
        first: (H, 4*C) and (H,), for f, r, f - r, f * r side by side (`compare.0`).
        second: (K, H) and (K,) (`compare.2`).
    """

    no_reference: Array
    first: Linear
    second: Linear

    def without_reference(self) -> Linear:
        """The first layer as one of f alone, (H, C) and (H,): r is a constant then."""
        r = self.no_reference.astype(np.float64)
        weight, bias = (part.astype(np.float64) for part in self.first)
        of_f, of_r, of_difference, of_product = np.split(weight, 4, axis=1)
        folded = of_f + of_difference + of_product * r
        return folded.astype(np.float32), (bias + (of_r - of_difference) @ r).astype(np.float32)


def build_defects(
    norm: tuple[Array, Array],
    weight: Array,
    bias: Array,
    *,
    compare: Compare | None = None,
    features: bool = False,
) -> onnx.ModelProto:
    """Thesis chapter 8: the mean of the patch tokens, LayerNorm, a linear layer.

    Args:
        norm: weight and bias of the LayerNorm, (C,) float32 each (`norm`).
        weight: (K, C) float32, one row per class in the order of the bundle's labels
            (`classify`).
        bias: (K,) float32.
        compare: of a head with references; here it sees none.
        features: whether what is classified is an output, too.

    Returns:
        A model. Input `map` (N, C, h, w) float32. Outputs `logits` (N, K) float32, of each
        picture alone, and `features` (N, C) float32 if wanted.
    """
    g = Graph("defects")
    dim = weight.shape[1]
    x = g.input("map", ["N", dim, "h", "w"])
    x = g.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g.layer_norm(x, *norm, "norm", out="features" if features else "")
    if compare is None:
        g.linear(x, weight, bias, "linear", out="logits")
    else:
        logits = g.linear(x, weight, bias, "linear")
        y = g.gelu(g.linear(x, *compare.without_reference(), "compare.0"))
        g.op("Add", logits, g.linear(y, *compare.second, "compare.2"), out="logits")
    g.output("logits", ["N", len(weight)])
    if features:
        g.output("features", ["N", dim])
    return g.model()


def build_defects_sequence(
    weight: Array,
    bias: Array,
    *,
    pool: str,
    score: Linear | None = None,
    compare: Compare | None = None,
) -> onnx.ModelProto:
    """Several pictures of one pick, and maybe one of its product, to one verdict.

    Args:
        weight: (K, C) float32 (`classify`).
        bias: (K,) float32.
        pool: over time, one of `POOLS` (`pool.way`).
        score: (1, C) and (1,), of "attention" (`pool.score`).
        compare: of a head with references.

    Returns:
        A model. Inputs `features` (N, T, C) float32, of `build_defects`; `present` (N, T)
        float32, 0 or 1, what stands in absent frames doesn't matter; and with `compare`
        `reference` (N, C) float32, `features` of the product's picture, and `has_reference`
        (N,) float32, 0 or 1. Output `logits` (N, K) float32. A row without any frame gets
        logits, too, which mean nothing.

    Raises:
        ConfigError: there is no such pool, or "attention" has no score.
    """
    if pool not in POOLS or (pool == "attention") != (score is not None):
        raise ConfigError(
            f"pool is {pool!r} {'with' if score else 'without'} a score",
            fix=f"use one of {', '.join(POOLS)}, and give attention its score",
        )
    g = Graph("defects_sequence")
    dim = weight.shape[1]
    frames = g.input("features", ["N", "T", dim])
    present = g.op("Unsqueeze", g.input("present", ["N", "T"]), g.ints(2))
    there = g.op("Greater", present, g.scalar(0.5))  # (N, T, 1)
    if pool == "max":
        x = g.op("Where", there, frames, g.scalar(ABSENT))
        x = g.op("ReduceMax", x, axes=[1], keepdims=0)
    else:
        frames = g.op("Where", there, frames, g.scalar(0.0))
        scores = present if score is None else g.linear(frames, *score, "pool.score")
        scores = g.op("Softmax", g.op("Where", there, scores, g.scalar(ABSENT)), axis=1)
        x = g.op("ReduceSum", g.op("Mul", scores, frames), g.ints(1), keepdims=0)
    if compare is None:
        g.linear(x, weight, bias, "linear", out="logits")
    else:
        reference = g.input("reference", ["N", dim])
        has = g.op("Unsqueeze", g.input("has_reference", ["N"]), g.ints(1))
        has = g.op("Greater", has, g.scalar(0.5))
        r = g.op("Where", has, reference, g.const(compare.no_reference, "no_reference"))
        pair = g.op("Concat", x, r, g.op("Sub", x, r), g.op("Mul", x, r), axis=1)
        y = g.gelu(g.linear(pair, *compare.first, "compare.0"))
        y = g.linear(y, *compare.second, "compare.2")
        g.op("Add", g.linear(x, weight, bias, "linear"), y, out="logits")
    g.output("logits", ["N", len(weight)])
    return g.model()


def build_regions(dim: int, *, patch: int) -> onnx.ModelProto:
    """Cut instances out of a tote's own map, instead of encoding their crops again.

    Args:
        dim: channels of the map, C.
        patch: side of a patch, px.

    Returns:
        A model. Inputs `map` (1, C, h, w) float32 and `boxes` (n, 4) float32, x1, y1, x2, y2 in
        canvas px. Outputs `maps` (n, C, 7, 7) float32, RoIAlign with about one sample per cell
        of the map, at least one per bin; and their means `cls` (n, C) float32. n = 0 works.
    """
    g = Graph("regions")
    tokens = g.input("map", [1, dim, "h", "w"])
    boxes = g.input("boxes", ["n", 4])
    pooled = g.op(
        "RoiAlign",
        tokens,
        boxes,
        g.op("Expand", g.ints(0), g.dim(boxes, 0)),
        coordinate_transformation_mode="half_pixel",
        output_height=REGION,
        output_width=REGION,
        sampling_ratio=0,
        spatial_scale=1 / patch,
        out="maps",
    )
    g.op("ReduceMean", pooled, axes=[2, 3], keepdims=0, out="cls")
    g.output("maps", ["n", dim, REGION, REGION])
    g.output("cls", ["n", dim])
    return g.model()
