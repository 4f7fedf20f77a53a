"""The two small heads on the shared backbone: product embedding and defect logits."""

from __future__ import annotations

import onnx

from robollm.export.graphs import Array, Graph

EPS = 1e-5
SHORTEST = 1e-6


def build_identification(weight: Array, bias: Array) -> onnx.ModelProto:
    """BEiT-3 retrieval: a linear projection of CLS, brought to length 1.

    Args:
        weight: (D, C) float32.
        bias: (D,) float32.

    Returns:
        A model. Input `cls` (N, C) float32. Output `embedding` (N, D) float32, L2 norm 1; a
        projection of length 0 stays 0, so nothing is ever NaN.
    """
    g = Graph("identification")
    x = g.input("cls", ["N", weight.shape[1]])
    x = g.linear(x, weight, bias, "projection")
    length = g.op("Max", g.op("ReduceL2", x, axes=[1], keepdims=1), g.scalar(SHORTEST))
    g.op("Div", x, length, out="embedding")
    g.output("embedding", ["N", len(weight)])
    return g.model()


def build_defects(norm: tuple[Array, Array], weight: Array, bias: Array) -> onnx.ModelProto:
    """Thesis chapter 8: the mean of the patch tokens, LayerNorm, a linear layer.

    Args:
        norm: weight and bias of the LayerNorm, (C,) float32 each.
        weight: (K, C) float32, one row per class in the order of the bundle's labels.
        bias: (K,) float32.

    Returns:
        A model. Input `map` (N, C, h, w) float32. Output `logits` (N, K) float32.
    """
    g = Graph("defects")
    x = g.input("map", ["N", weight.shape[1], "h", "w"])
    x = g.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g.layer_norm(x, *norm, "norm", eps=EPS)
    g.linear(x, weight, bias, "linear", out="logits")
    g.output("logits", ["N", len(weight)])
    return g.model()
