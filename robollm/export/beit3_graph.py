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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.adapter_graph import Adapters, choose_adapters, split_adapters
from robollm.export.attention_graph import Windows, attend_in_windows, plan_windows
from robollm.export.graphs import Array, Graph

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


def build_backbone(
    weights: Weights,
    *,
    heads: int,
    window: int = 0,
    global_blocks: Sequence[int] = (),
    adapters: Sequence[str] = (),
    alphas: Mapping[str, float] = MappingProxyType({}),
    baked: str = "",
) -> onnx.ModelProto:
    """Write the encoder as a graph that takes any image whose sides are multiples of the patch.

    Args:
        weights: float32 arrays, named as in the module's docstring; those of adapters
            `blocks.i.adapters.<task>.{extractor,enhancer}.{down,up}.{weight,bias}`.
        heads: attention heads.
        window: side of the attention windows, patches; 0 is attention over the whole image.
        global_blocks: blocks that see the whole image although `window` is set, from 0.
        adapters: tasks whose adapters a row of the batch can switch on. All that the weights
            have.
        alphas: task -> factor of its adapters.
        baked: a task whose adapters are always on; others' are left out.

    Returns:
        A model. Input `image` (N, 3, H, W) float32, RGB, normalised, canvas px. With `adapters`
        also `task` (N,) int64: 0 for none, i + 1 for `adapters[i]`. Outputs `map`
        (N, C, H/P, W/P) float32, the patch tokens after the last LayerNorm, row-major, and
        `cls` (N, C) float32.

    Raises:
        ModelFileError: the weights aren't those of such an encoder.
        ConfigError: a setting is out of range, or two of them contradict each other.
    """
    own, added = split_adapters(weights)
    s = EncoderShape.of(own, heads=heads)
    _check_windows(window, global_blocks, s.depth)
    g = Graph("backbone")
    image = g.input("image", ["N", 3, "H", "W"])
    chosen = choose_adapters(
        g, added, dim=s.dim, depth=s.depth, adapters=adapters, alphas=alphas, baked=baked
    )
    patches = g.op(
        "Conv",
        image,
        g.const(own["patch_embed.weight"], "patch_embed.weight"),
        g.const(own["patch_embed.bias"], "patch_embed.bias"),
        kernel_shape=[s.patch, s.patch],
        strides=[s.patch, s.patch],
    )
    n, h, w = (g.dim(patches, axis) for axis in (0, 2, 3))
    channels = g.ints(s.dim)
    x = g.op("Add", patches, _positions(g, own["pos_embed"][1:], s, h, w))
    x = g.op("Reshape", x, g.ints(0, s.dim, -1))
    x = g.op("Transpose", x, perm=[0, 2, 1])  # (N, h*w, C)
    first = g.const(own["cls_token"] + own["pos_embed"][:1], "cls_token")
    first = g.op("Expand", first, g.op("Concat", n, g.ints(1), channels, axis=0))
    x = g.op("Concat", first, x, axis=1)  # (N, T, C), T = 1 + h*w
    windows = None
    if window and len(set(global_blocks)) < s.depth:
        windows = plan_windows(g, (n, h, w), window=window, heads=heads, dim=s.dim)
    for i in range(s.depth):
        x = _block(g, x, own, i, s, None if i in global_blocks else windows, chosen)
    x = g.layer_norm(x, own["norm.weight"], own["norm.bias"], "norm")
    g.op("Gather", x, g.int0(0), axis=1, out="cls")
    x = g.op("Slice", x, g.ints(1), g.ints(2**31), g.ints(1))
    x = g.op("Transpose", x, perm=[0, 2, 1])
    g.op("Reshape", x, g.op("Concat", n, channels, h, w, axis=0), out="map")
    g.output("map", ["N", s.dim, "h", "w"])
    g.output("cls", ["N", s.dim])
    return g.model()


def _check_windows(window: int, global_blocks: Sequence[int], depth: int) -> None:
    wrong = [block for block in global_blocks if not 0 <= block < depth]
    if window < 0 or wrong or (global_blocks and not window):
        raise ConfigError(
            f"window is {window} and global_blocks are {list(global_blocks)}; want window >= 0 "
            f"and, with a window, blocks from 0 to {depth - 1}",
            fix="take both from the trained encoder's settings",
        )


def _positions(g: Graph, table: Array, s: EncoderShape, h: str, w: str) -> str:
    """The patch rows of the position table, resized to (h, w): (C, h, w) float32.

    Bicubic, a = -0.75, half-pixel centres, edges repeated: torch's `interpolate(mode="bicubic",
    align_corners=False)`. It is linear and separable, so each axis' weights, from Keys' kernel,
    and two small matrix products do it. Resize isn't used: on all C channels it costs ONNX
    Runtime more than an encoder block, and TensorRT promises no cubic one.
    """
    reach = 2  # cells beyond the table, where its border is repeated
    cells = np.arange(-reach, s.grid + reach)
    border = (cells.clip(0, s.grid - 1) == np.arange(s.grid)[:, None]).astype(np.float32)
    fold = g.const(border, "pos_embed.border")  # (grid, grid + 4)
    centres = g.const(2 * cells[:, None] + 1, "pos_embed.centres")  # twice, so int64

    def weights_to(size: str) -> str:  # (grid, size)
        # distances of centres, times 2 size: whole numbers, exact in every variant
        stop = g.op("Squeeze", g.op("Mul", size, g.ints(2 * s.grid)), g.ints(0))
        x = g.op("Range", g.int0(s.grid), stop, g.int0(2 * s.grid))
        far = g.op("Abs", g.op("Sub", x, g.op("Mul", centres, size)))
        whole = g.op("Cast", g.op("Mul", size, g.ints(2)), to=TensorProto.FLOAT)
        far = g.op("Div", g.op("Cast", far, to=TensorProto.FLOAT), whole)
        # a = -0.75, near t up to 1: 1 - t^2 (2.25 - 1.25 t); beyond, up to 2: -0.75 p q^2
        near, far = (g.op("Clip", far, "", g.scalar(end)) for end in (1.0, 2.0))
        p, q = g.op("Sub", far, near), g.op("Sub", g.scalar(2.0), far)
        slope = g.op("Sub", g.scalar(2.25), g.op("Mul", near, g.scalar(1.25)))
        kernel = g.op("Sub", g.scalar(1.0), g.op("Mul", g.op("Mul", near, near), slope))
        p = g.op("Mul", g.op("Mul", p, g.op("Mul", q, q)), g.scalar(0.75))
        kernel = g.op("Sub", kernel, p)
        return g.op("MatMul", fold, kernel)

    def along_last(x: str, size: str) -> str:
        """(C, n, grid) -> (C, n, size), as a product of two matrices, which any runtime takes."""
        y = g.op("MatMul", g.op("Reshape", x, g.ints(-1, s.grid)), weights_to(size))
        return g.op("Reshape", y, g.op("Concat", g.ints(s.dim, -1), size, axis=0))

    grid = g.const(table.T.reshape(s.dim, s.grid, s.grid), "pos_embed")
    wide = g.op("Transpose", along_last(grid, w), perm=[0, 2, 1])  # (C, w, grid)
    return g.op("Transpose", along_last(wide, h), perm=[0, 2, 1])


def _block(
    g: Graph,
    x: str,
    weights: Weights,
    index: int,
    s: EncoderShape,
    windows: Windows | None,
    adapters: Adapters | None,
) -> str:
    """One pre-LN block with subln, (N, T, C) -> (N, T, C)."""
    name = f"blocks.{index}"

    def pair(part: str) -> tuple[Array, Array]:
        return weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]

    def adapt(x: str, part: str) -> str | None:
        return None if adapters is None else adapters.add(g, x, index, part, f"{name}.{part}")

    y = g.layer_norm(x, *pair("norm1"), f"{name}.norm1")
    y = _attention(g, y, weights, f"{name}.attn", s, windows)
    y = g.layer_norm(y, *pair("attn.inner_norm"), f"{name}.attn.inner_norm")
    x = g.op("Add", x, g.linear(y, *pair("attn.proj"), f"{name}.attn.proj"))
    normed = g.layer_norm(x, *pair("norm2"), f"{name}.norm2")
    y = g.gelu(g.linear(normed, *pair("mlp.fc1"), f"{name}.mlp.fc1"))
    y = g.layer_norm(y, *pair("mlp.norm"), f"{name}.mlp.norm")
    y = g.linear(y, *pair("mlp.fc2"), f"{name}.mlp.fc2")
    extracted = adapt(normed, "extractor")
    if extracted:
        y = g.op("Add", y, extracted)
    x = g.op("Add", x, y)
    enhanced = adapt(x, "enhancer")
    return g.op("Add", x, enhanced) if enhanced else x


def _attention(
    g: Graph, x: str, weights: Weights, name: str, s: EncoderShape, windows: Windows | None
) -> str:
    """Softmax(q k^T / sqrt(d)) v over all tokens, heads side by side again, (N, T, C).

    The scale is folded into q's weights: one pass over memory less.
    """
    d = s.dim // s.heads
    scale = {"q": np.float32(d**-0.5), "k": np.float32(1), "v": np.float32(1)}
    parts: dict[str, str] = {}
    for part, factor in scale.items():
        weight, bias = (weights[f"{name}.{part}.{kind}"] * factor for kind in ("weight", "bias"))
        y = g.linear(x, weight, bias, f"{name}.{part}")
        if windows is None:
            y = g.op("Reshape", y, g.ints(0, 0, s.heads, d))
            # k is laid out (N, heads, d, T), ready to be the right-hand factor
            y = g.op("Transpose", y, perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3])
        parts[part] = y
    if windows is not None:
        return attend_in_windows(g, **parts, windows=windows)
    attention = g.op("Softmax", g.op("MatMul", parts["q"], parts["k"]), axis=-1)
    y = g.op("Transpose", g.op("MatMul", attention, parts["v"]), perm=[0, 2, 1, 3])
    return g.op("Reshape", y, g.ints(0, 0, s.dim))
