"""The BEiT-3 vision encoder once more, symbol by symbol, in float64 NumPy. Slow on purpose."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robollm.export.beit3_graph import Weights

F64 = NDArray[np.float64]


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel at distance `t`, samples."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    if t < 2:
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return 0.0


def bicubic(table: F64, height: int, width: int) -> F64:
    """Resize (g, g, C) to (height, width, C): half-pixel centres, edge samples repeated."""
    side = len(table)
    out = np.zeros((height, width, table.shape[2]))
    for y in range(height):
        for x in range(width):
            v, u = (y + 0.5) * side / height - 0.5, (x + 0.5) * side / width - 0.5
            for j in range(math.floor(v) - 1, math.floor(v) + 3):
                for i in range(math.floor(u) - 1, math.floor(u) + 3):
                    sample = table[min(max(j, 0), side - 1), min(max(i, 0), side - 1)]
                    out[y, x] += cubic(v - j) * cubic(u - i) * sample
    return out


def layer_norm(x: F64, weights: Weights, name: str) -> F64:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[
        f"{name}.bias"
    ]


def linear(x: F64, weights: Weights, name: str) -> F64:
    return x @ weights[f"{name}.weight"].T.astype(np.float64) + weights[f"{name}.bias"]


def gelu(x: F64) -> F64:
    erf = np.array([math.erf(v / math.sqrt(2)) for v in x.reshape(-1)])
    return 0.5 * x * (1 + erf.reshape(x.shape))


def attention(x: F64, weights: Weights, name: str, heads: int) -> F64:
    q, k, v = (linear(x, weights, f"{name}.{part}") for part in "qkv")
    d = x.shape[1] // heads
    out = np.zeros_like(x)
    for head in range(heads):
        of = slice(head * d, (head + 1) * d)
        scores = q[:, of] @ k[:, of].T / math.sqrt(d)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, of] = scores / scores.sum(-1, keepdims=True) @ v[:, of]
    return linear(layer_norm(out, weights, f"{name}.inner_norm"), weights, f"{name}.proj")


def encode(weights: Weights, image: NDArray[np.float32], *, heads: int) -> tuple[F64, F64]:
    """Encode one image.

    Args:
        weights: see `robollm.export.beit3_graph`.
        image: (3, H, W) float32, RGB, normalised.
        heads: attention heads.

    Returns:
        map (C, h, w) float64 and cls (C,) float64.
    """
    kernel = weights["patch_embed.weight"].astype(np.float64)
    dim, _, patch, _ = kernel.shape
    h, w = image.shape[1] // patch, image.shape[2] // patch
    patches = np.zeros((h, w, dim))
    for y in range(h):
        for x in range(w):
            cut = image[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
            patches[y, x] = (kernel * cut).sum((1, 2, 3)) + weights["patch_embed.bias"]
    table = weights["pos_embed"].astype(np.float64)
    side = math.isqrt(len(table) - 1)
    patches += bicubic(table[1:].reshape(side, side, dim), h, w)
    cls = weights["cls_token"].reshape(1, dim) + table[:1]
    x = np.concatenate([cls, patches.reshape(h * w, dim)])
    depth = sum(k.endswith("norm1.weight") for k in weights)
    for i in range(depth):
        b = f"blocks.{i}"
        x = x + attention(layer_norm(x, weights, f"{b}.norm1"), weights, f"{b}.attn", heads)
        y = gelu(linear(layer_norm(x, weights, f"{b}.norm2"), weights, f"{b}.mlp.fc1"))
        x = x + linear(layer_norm(y, weights, f"{b}.mlp.norm"), weights, f"{b}.mlp.fc2")
    x = layer_norm(x, weights, "norm")
    return x[1:].T.reshape(dim, h, w), x[0]
