"""Attention in windows that also see CLS, in ONNX, for every image size.

What is computed is `robollm.train.beit3.attention.attend_in_windows`. How an image is cut into
windows is arithmetic of the graph, done once for all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robollm.export.graphs import Graph

UNSEEN = -3e4
"""Added to the scores of padding, whose softmax then is 0 exactly; float16 can hold it."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How the images of one run are cut. Shapes are 1-D int64 values of the graph.

    Attributes:
        heads: attention heads.
        dim: channels of a token, C.
        grid: h, w; patches.
        image: shape of a map of tokens: N, h, w, C.
        pads: `Pad`'s argument that brings it to whole windows.
        whole: its shape then: N, rows * y, columns * x, C.
        cut: N, rows, y, columns, x, heads, d.
        sorted: N, rows, columns, heads, y, x, d.
        ones: 1, windows of an image, 1, 1, 1; repeats CLS.
        bias: (N * windows of an image, 1, 1, 1 + tokens of a window) float32: 0, at padding
            `UNSEEN`.
        tokens: y * x, tokens of a window.
    """

    heads: int
    dim: int
    grid: str
    image: str
    pads: str
    whole: str
    cut: str
    sorted: str
    ones: str
    bias: str
    tokens: str


def plan_windows(
    g: Graph, grid: tuple[str, str, str], *, window: int, heads: int, dim: int
) -> Windows:
    """Plan how maps of tokens are cut.

    Args:
        g: the graph.
        grid: images N, rows h and columns w of patches, (1,) int64 each.
        window: side of a window, patches; a smaller image is one window.
        heads: attention heads.
        dim: channels of a token, C.
    """
    n, h, w = grid
    one, zero, head = g.ints(1), g.ints(0), (g.ints(heads), g.ints(dim // heads))

    def shape(*parts: str) -> str:
        return g.op("Concat", *parts, axis=0)

    def cut(length: str) -> tuple[str, str, str, str]:
        """Side of a window, number of windows, their sides' sum, and what that has more."""
        side = g.op("Min", length, g.ints(window))
        count = g.op("Div", g.op("Add", length, g.op("Sub", side, one)), side)
        total = g.op("Mul", count, side)
        return side, count, total, g.op("Sub", total, length)

    y, rows, height, down = cut(h)
    x, columns, width, right = cut(w)
    tokens, count = g.op("Mul", y, x), g.op("Mul", rows, columns)
    bias = g.op("Expand", g.floats(0.0), shape(h, w))
    bias = g.op("Pad", bias, shape(zero, zero, down, right), g.scalar(UNSEEN))
    bias = g.op("Transpose", g.op("Reshape", bias, shape(rows, y, columns, x)), perm=[0, 2, 1, 3])
    bias = g.op("Pad", g.op("Reshape", bias, shape(count, tokens)), g.ints(0, 1, 0, 0))  # CLS
    keys = g.op("Add", tokens, one)
    bias = g.op("Expand", bias, shape(n, count, keys))
    return Windows(
        heads=heads,
        dim=dim,
        grid=shape(h, w),
        image=shape(n, h, w, g.ints(dim)),
        pads=shape(g.ints(0, 0, 0, 0, 0), down, right, zero),
        whole=shape(n, height, width, g.ints(dim)),
        cut=shape(n, rows, y, columns, x, *head),
        sorted=shape(n, rows, columns, head[0], y, x, head[1]),
        ones=shape(one, count, one, one, one),
        bias=g.op("Reshape", bias, shape(g.ints(-1, 1, 1), keys)),
        tokens=tokens,
    )


def attend_in_windows(g: Graph, q: str, k: str, v: str, windows: Windows) -> str:
    """Let each patch attend to its window and to CLS, and CLS to all tokens.

    Args:
        g: the graph.
        q: (N, 1 + h*w, C) float32, CLS first, scaled by 1 / sqrt(d) already.
        k: the same, not scaled.
        v: the same.
        windows: of `plan_windows`.

    Returns:
        (N, 1 + h*w, C), heads side by side.
    """
    scores = g.op("MatMul", _patches(g, q, windows), _keys(g, k, windows))
    scores = g.op("Softmax", g.op("Add", scores, windows.bias), axis=-1)
    values = [_cls(g, v, windows), _patches(g, v, windows)]
    y = g.op("MatMul", scores, g.op("Concat", *values, axis=2))
    y = g.op("Transpose", g.op("Reshape", y, windows.sorted), perm=[0, 1, 4, 2, 5, 3, 6])
    y = g.op("Reshape", y, windows.whole)
    y = g.op("Slice", y, g.ints(0, 0), windows.grid, g.ints(1, 2))
    y = g.op("Reshape", y, g.ints(0, -1, windows.dim))
    return g.op("Concat", _attend_from_cls(g, q, k, v, windows), y, axis=1)


def _patches(g: Graph, x: str, windows: Windows, *, last: bool = False) -> str:
    """The patches of (N, 1 + h*w, C) by window and head, padded with 0.

    Returns:
        (N * windows, heads, tokens, d); with `last`, (N * windows, heads, d, tokens).
    """
    x = g.op("Slice", x, g.ints(1), g.ints(2**31), g.ints(1))
    x = g.op("Pad", g.op("Reshape", x, windows.image), windows.pads)
    x = g.op("Reshape", x, windows.cut)
    x = g.op("Transpose", x, perm=[0, 1, 3, 5, 6, 2, 4] if last else [0, 1, 3, 5, 2, 4, 6])
    d = g.ints(windows.dim // windows.heads)
    sides = [d, windows.tokens] if last else [windows.tokens, d]
    return g.op("Reshape", x, g.op("Concat", g.ints(-1, windows.heads), *sides, axis=0))


def _cls(g: Graph, x: str, windows: Windows, *, last: bool = False) -> str:
    """CLS of (N, 1 + h*w, C), once per window: shaped as one token of `_patches`."""
    sides = [windows.dim // windows.heads, 1] if last else [1, windows.dim // windows.heads]
    x = g.op("Slice", x, g.ints(0), g.ints(1), g.ints(1))
    x = g.op("Reshape", x, g.ints(-1, 1, windows.heads, *sides))
    return g.op("Reshape", g.op("Expand", x, windows.ones), g.ints(-1, windows.heads, *sides))


def _keys(g: Graph, k: str, windows: Windows) -> str:
    """(N * windows, heads, d, 1 + tokens), ready to be the right-hand factor."""
    parts = [_cls(g, k, windows, last=True), _patches(g, k, windows, last=True)]
    return g.op("Concat", *parts, axis=3)


def _attend_from_cls(g: Graph, q: str, k: str, v: str, windows: Windows) -> str:
    """CLS after attention to all tokens, (N, 1, C).

    CLS' query as a matrix (C, heads) that is 0 outside of each head's channels saves keys and
    values from being laid out by head a second time, for one row.
    """
    d = windows.dim // windows.heads
    own = np.repeat(np.eye(windows.heads, dtype=np.float32), d, axis=0)  # (C, heads)
    query = g.op("Slice", q, g.ints(0), g.ints(1), g.ints(1))
    query = g.op("Reshape", query, g.ints(-1, windows.dim, 1))
    scores = g.op("MatMul", k, g.op("Mul", query, g.once(own, "heads")))  # (N, T, heads)
    scores = g.op("Softmax", g.op("Transpose", scores, perm=[0, 2, 1]), axis=-1)
    each = g.op("Mul", g.op("MatMul", scores, v), g.once(own.T, "heads.T"))  # (N, heads, C)
    return g.op("ReduceSum", each, g.ints(1), keepdims=1)
