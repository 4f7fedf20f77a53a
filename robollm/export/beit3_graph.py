"""The BEiT-3 vision encoder as one ONNX graph, for every image size, from NumPy weights.

Weights are named as in our PyTorch encoder (docs: the key map from the published checkpoint):

    cls_token (1, 1, C)                patch_embed.{weight (C, 3, P, P), bias (C,)}
    pos_embed (1 + G*G, C)             row 0 is CLS, then patches row-major
    blocks.i.norm1.{weight, bias}      blocks.i.attn.{q,k,v,proj}.{weight (C, C), bias (C,)}
    blocks.i.attn.inner_norm.*         LayerNorm between attention and `proj` ("subln")
    blocks.i.norm2.*                   blocks.i.mlp.fc1.* (F, C), blocks.i.mlp.fc2.* (C, F)
    blocks.i.mlp.norm.*                LayerNorm (F,) between GELU and `fc2` ("subln")
    norm.*                             the last LayerNorm

Structure: BEiT-3, arXiv:2208.10442, as in microsoft/torchscale (MIT): pre-LN, subln,
epsilon 1e-5, exact GELU, CLS in front before positions are added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from robollm.core.errors import ModelFileError
from robollm.export.graphs import Array, Graph

EPS = 1e-5
Weights = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """What a set of encoder weights says about itself.

    Attributes:
        dim: channels of a token, C.
        depth: number of blocks.
        hidden: channels inside the feed-forward part, F.
        patch: side of a patch, px.
        grid: side of the learned position table, patches.
        heads: attention heads; C is a multiple of it. The weights can't tell, so it is given.
    """

    dim: int
    depth: int
    hidden: int
    patch: int
    grid: int
    heads: int

    @classmethod
    def of(cls, weights: Weights, *, heads: int) -> EncoderShape:
        """Read the sizes from the weights, and check that exactly the right ones are there.

        Raises:
            ModelFileError: a weight is missing, unknown or of the wrong shape.
        """
        try:
            dim, _, patch, _ = weights["patch_embed.weight"].shape
            rows = len(weights["pos_embed"])
            hidden = len(weights["blocks.0.mlp.fc1.weight"])
        except (KeyError, ValueError) as e:
            raise ModelFileError(
                f"these are no BEiT-3 vision weights: {e}",
                fix="convert the checkpoint's vision branch first",
            ) from e
        depth = len({k.split(".")[1] for k in weights if k.startswith("blocks.")})
        shape = cls(dim, depth, hidden, patch, math.isqrt(rows - 1), heads)
        want = shape.expected()
        got = {k: v.shape for k, v in weights.items()}
        wrong = sorted(k for k in want.keys() | got.keys() if want.get(k) != got.get(k))
        if wrong:
            k = wrong[0]
            raise ModelFileError(
                f"{len(wrong)} encoder weights don't fit, first {k!r}: "
                f"is {got.get(k, 'missing')}, want {want.get(k, 'no such weight')}",
                fix="check depth, dim and the key map of the checkpoint",
            )
        if dim % heads:
            raise ModelFileError(
                f"{dim} channels don't divide into {heads} heads", fix="give another heads"
            )
        return shape

    def expected(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by name."""
        c, f, p = self.dim, self.hidden, self.patch
        shapes: dict[str, tuple[int, ...]] = {
            "cls_token": (1, 1, c),
            "pos_embed": (1 + self.grid**2, c),
            "patch_embed.weight": (c, 3, p, p),
            "patch_embed.bias": (c,),
            "norm.weight": (c,),
            "norm.bias": (c,),
        }
        matrices = {f"attn.{n}": (c, c) for n in ("q", "k", "v", "proj")}
        matrices |= {"mlp.fc1": (f, c), "mlp.fc2": (c, f)}
        norms = {"norm1": c, "attn.inner_norm": c, "norm2": c, "mlp.norm": f}
        for i in range(self.depth):
            for name, size in matrices.items():
                shapes[f"blocks.{i}.{name}.weight"] = size
                shapes[f"blocks.{i}.{name}.bias"] = size[:1]
            for name, width in norms.items():
                shapes[f"blocks.{i}.{name}.weight"] = (width,)
                shapes[f"blocks.{i}.{name}.bias"] = (width,)
        return shapes


def build_backbone(weights: Weights, *, heads: int) -> onnx.ModelProto:
    """Write the encoder as a graph that takes any image whose sides are multiples of the patch.

    Args:
        weights: float32 arrays, named as in the module's docstring.
        heads: attention heads.

    Returns:
        A model. Input `image` (N, 3, H, W) float32, RGB, normalised, canvas px. Outputs
        `map` (N, C, H/P, W/P) float32, the patch tokens after the last LayerNorm, row-major,
        and `cls` (N, C) float32.

    Raises:
        ModelFileError: the weights aren't those of such an encoder.
    """
    s = EncoderShape.of(weights, heads=heads)
    g = Graph("backbone")
    image = g.input("image", ["N", 3, "H", "W"])
    patches = g.op(
        "Conv",
        image,
        g.const(weights["patch_embed.weight"], "patch_embed.weight"),
        g.const(weights["patch_embed.bias"], "patch_embed.bias"),
        kernel_shape=[s.patch, s.patch],
        strides=[s.patch, s.patch],
    )
    n, h, w = (g.dim(patches, axis) for axis in (0, 2, 3))
    channels = g.ints(s.dim)
    x = g.op("Add", patches, _positions(g, weights["pos_embed"][1:], s, h, w))
    x = g.op("Reshape", x, g.ints(0, s.dim, -1))
    x = g.op("Transpose", x, perm=[0, 2, 1])  # (N, h*w, C)
    first = g.const(weights["cls_token"] + weights["pos_embed"][:1], "cls_token")
    first = g.op("Expand", first, g.op("Concat", n, g.ints(1), channels, axis=0))
    x = g.op("Concat", first, x, axis=1)  # (N, T, C), T = 1 + h*w
    for i in range(s.depth):
        x = _block(g, x, weights, f"blocks.{i}", s)
    x = g.layer_norm(x, weights["norm.weight"], weights["norm.bias"], "norm", eps=EPS)
    g.op("Gather", x, g.int0(0), axis=1, out="cls")
    x = g.op("Slice", x, g.ints(1), g.ints(2**31), g.ints(1))
    x = g.op("Transpose", x, perm=[0, 2, 1])
    g.op("Reshape", x, g.op("Concat", n, channels, h, w, axis=0), out="map")
    g.output("map", ["N", s.dim, "h", "w"])
    g.output("cls", ["N", s.dim])
    return g.model()


def _positions(g: Graph, table: Array, s: EncoderShape, h: str, w: str) -> str:
    """The patch rows of the position table, resized to (h, w): (C, h, w) float32.

    Bicubic, a = -0.75, half-pixel centres, edges repeated: torch's `interpolate(mode="bicubic",
    align_corners=False)`. It is linear and separable, so a unit matrix is resized along one
    axis to get each axis' weights, and two small matrix products do the rest: Resize on all C
    channels costs ONNX Runtime more than an encoder block.
    """
    unit = g.const(np.eye(s.grid, dtype=np.float32)[None, None], "pos_embed.unit")

    def weights_to(size: str) -> str:  # (size, grid)
        sizes = g.op("Concat", g.ints(1, 1), size, g.ints(s.grid), axis=0)
        return g.op(
            "Resize",
            unit,
            "",
            "",
            sizes,
            mode="cubic",
            cubic_coeff_a=-0.75,
            coordinate_transformation_mode="half_pixel",
        )

    def matrix(size: str) -> str:
        return g.op("Reshape", weights_to(size), g.ints(-1, s.grid))

    grid = table.T.reshape(s.dim, s.grid, s.grid)
    rows = g.op("MatMul", matrix(h), g.const(grid, "pos_embed"))  # (C, h, grid)
    return g.op("MatMul", rows, g.op("Transpose", matrix(w), perm=[1, 0]))


def _block(g: Graph, x: str, weights: Weights, name: str, s: EncoderShape) -> str:
    """One pre-LN block with subln, (N, T, C) -> (N, T, C)."""

    def pair(part: str) -> tuple[Array, Array]:
        return weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]

    y = g.layer_norm(x, *pair("norm1"), f"{name}.norm1", eps=EPS)
    y = _attention(g, y, weights, f"{name}.attn", s)
    y = g.layer_norm(y, *pair("attn.inner_norm"), f"{name}.attn.inner_norm", eps=EPS)
    x = g.op("Add", x, g.linear(y, *pair("attn.proj"), f"{name}.attn.proj"))
    y = g.layer_norm(x, *pair("norm2"), f"{name}.norm2", eps=EPS)
    y = _gelu(g, g.linear(y, *pair("mlp.fc1"), f"{name}.mlp.fc1"))
    y = g.layer_norm(y, *pair("mlp.norm"), f"{name}.mlp.norm", eps=EPS)
    return g.op("Add", x, g.linear(y, *pair("mlp.fc2"), f"{name}.mlp.fc2"))


def _attention(g: Graph, x: str, weights: Weights, name: str, s: EncoderShape) -> str:
    """Softmax(q k^T / sqrt(d)) v over all tokens, heads side by side again, (N, T, C).

    The scale is folded into q's weights: one pass over memory less.
    """
    d = s.dim // s.heads
    scale = {"q": np.float32(d**-0.5), "k": np.float32(1), "v": np.float32(1)}
    split: dict[str, str] = {}
    for part, factor in scale.items():
        weight, bias = (weights[f"{name}.{part}.{kind}"] * factor for kind in ("weight", "bias"))
        y = g.linear(x, weight, bias, f"{name}.{part}")
        y = g.op("Reshape", y, g.ints(0, 0, s.heads, d))
        # k is laid out (N, heads, d, T), ready to be the right-hand factor
        split[part] = g.op("Transpose", y, perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3])
    attention = g.op("Softmax", g.op("MatMul", split["q"], split["k"]), axis=-1)
    y = g.op("Transpose", g.op("MatMul", attention, split["v"]), perm=[0, 2, 1, 3])
    return g.op("Reshape", y, g.ints(0, 0, s.dim))


def _gelu(g: Graph, x: str) -> str:
    """Exact GELU, x/2 (1 + erf(x / sqrt 2)), in the form that ONNX Runtime fuses."""
    erf = g.op("Erf", g.op("Div", x, g.scalar(math.sqrt(2))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", erf, g.scalar(1.0))), g.scalar(0.5))
