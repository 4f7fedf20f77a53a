"""What every two-stage detector does with boxes, as nodes: refine, suppress, pool on a level.

Boxes are (n, 4) float32, xyxy, canvas px. The formulas are MMDetection's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import TensorProto

from robollm.export.graphs import Graph

MAX_LOG = math.log(1000 / 16)  # one refinement can't explode a box
THIN = -1.0
"""Score of a box that is too thin to be real: under every threshold."""
_LEVEL_EPS = 1e-6


def halves(g: Graph, boxes: str) -> tuple[str, str]:
    """Columns 0-1 and columns 2-3 of (n, 4)."""
    low, high = g.ops("Split", 2, boxes, g.ints(2, 2), axis=1)
    return low, high


def refine(g: Graph, boxes: str, delta: str, limit: str) -> str:
    """Move and scale boxes by (dx, dy, log dw, log dh), then clip them to the canvas.

    Args:
        g: where the nodes go.
        boxes: (n, 4).
        delta: (n, 4), in shares of each box's own size.
        limit: (4,): width, height, width, height of the canvas, px.
    """
    low, high = halves(g, boxes)
    shift, grow = halves(g, delta)
    size = g.op("Sub", high, low)
    centre = g.op("Mul", g.op("Add", low, high), g.scalar(0.5))
    centre = g.op("Add", centre, g.op("Mul", size, shift))
    grow = g.op("Exp", g.op("Clip", grow, g.scalar(-MAX_LOG), g.scalar(MAX_LOG)))
    half = g.op("Mul", g.op("Mul", size, grow), g.scalar(0.5))
    moved = g.op("Concat", g.op("Sub", centre, half), g.op("Add", centre, half), axis=1)
    return g.op("Min", g.op("Max", moved, g.scalar(0.0)), limit)


def without_thin(g: Graph, boxes: str, scores: str, side: float, *, out: str = "") -> str:
    """The scores, (n,), but `THIN` where the box is not wider and higher than `side` px."""
    low, high = halves(g, boxes)
    shortest = g.op("ReduceMin", g.op("Sub", high, low), axes=[1], keepdims=0)
    real = g.op("Greater", shortest, g.scalar(side))
    return g.op("Where", real, scores, g.scalar(THIN), out=out)


def suppress(g: Graph, boxes: str, scores: str, *, count: str, iou: float, floor: str) -> str:
    """Greedy suppression among all the boxes.

    Args:
        g: where the nodes go.
        boxes: (n, 4).
        scores: (n,).
        count: (1,) int64, how many may stay.
        iou: a box that overlaps a better one by more than this goes.
        floor: (1,) float32, a box with this score or less goes.

    Returns:
        (k,) int64, indices of the boxes that stay. ONNX doesn't promise their order: see `ranked`.
    """
    kept = g.op(
        "NonMaxSuppression",
        g.op("Unsqueeze", boxes, g.ints(0)),
        g.op("Unsqueeze", scores, g.ints(0, 1)),
        count,
        g.floats(iou),
        floor,
    )
    return g.op("Gather", kept, g.int0(2), axis=1)


def ranked(g: Graph, scores: str, kept: str, *, out: str = "") -> tuple[str, str]:
    """Best first: the scores of `kept`, (k,) float32, and its indices in that order, (k,) int64.

    Args:
        g: where the nodes go.
        scores: (n,) float32.
        kept: (k,) int64, indices into `scores`.
        out: name of the scores that are given.
    """
    best, order = g.ops(
        "TopK", 2, g.op("Gather", scores, kept, axis=0), g.dim(kept, 0), axis=0, out=out
    )
    return best, g.op("Gather", kept, order, axis=0)


def pool(
    g: Graph,
    levels: Sequence[str],
    boxes: str,
    *,
    strides: Sequence[int],
    finest: float,
    side: int,
    sampling: int,
) -> tuple[str, str]:
    """RoIAlign each box on the level of its size.

    The rule is FPN's: a box of up to `finest` px, as the root of its area, belongs to the first
    level, one of twice the side to the next.

    Args:
        g: where the nodes go.
        levels: (1, K, h_l, w_l) each, fine to coarse.
        boxes: (n, 4).
        strides: of the levels, px.
        finest: px.
        side: bins per axis.
        sampling: points per bin and axis; 0: one per cell of the level.

    Returns:
        (n, K, side, side), in an order of its own: level by level; and (n,) int64, which box each
        row belongs to. `in_order` brings rows back.
    """
    if len(levels) == 1:
        every = g.op("Range", g.int0(0), g.op("Squeeze", g.dim(boxes, 0)), g.int0(1))
        return _roi_align(g, levels[0], boxes, strides[0], side, sampling), every
    low, high = halves(g, boxes)
    area = g.op("ReduceProd", g.op("Sub", high, low), axes=[1], keepdims=0)
    ratio = g.op("Div", g.op("Sqrt", area), g.scalar(finest))
    level = g.op("Log", g.op("Add", ratio, g.scalar(_LEVEL_EPS)))
    level = g.op("Floor", g.op("Div", level, g.scalar(math.log(2))))
    level = g.op("Clip", level, g.scalar(0.0), g.scalar(len(levels) - 1.0))
    parts, indices = [], []
    for i, (stride, features) in enumerate(zip(strides, levels, strict=True)):
        here = g.op("NonZero", g.op("Equal", level, g.scalar(float(i))))
        index = g.op("Reshape", here, g.ints(-1))
        some = g.op("Gather", boxes, index, axis=0)
        parts.append(_roi_align(g, features, some, stride, side, sampling))
        indices.append(index)
    return g.op("Concat", *parts, axis=0), g.op("Concat", *indices, axis=0)


def in_order(g: Graph, rows: str, which: str, *, out: str = "") -> str:
    """Rows that belong to the boxes `which`, (n,) int64, in the order of the boxes."""
    _, back = g.ops("TopK", 2, which, g.dim(which, 0), axis=0, largest=0)
    return g.op("Gather", rows, back, axis=0, out=out)


def zeros(g: Graph, shape: str, *, out: str = "") -> str:
    """int64 zeros."""
    zero = onnx.helper.make_tensor("value", TensorProto.INT64, [1], [0])
    return g.op("ConstantOfShape", shape, value=zero, out=out)


def _roi_align(g: Graph, features: str, boxes: str, stride: int, side: int, sampling: int) -> str:
    return g.op(
        "RoiAlign",
        features,
        boxes,
        zeros(g, g.dim(boxes, 0)),
        coordinate_transformation_mode="half_pixel",
        output_height=side,
        output_width=side,
        sampling_ratio=sampling,
        spatial_scale=1 / stride,
    )
