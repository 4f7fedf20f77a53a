"""Small encoders in the three ways that they are exported, for TensorRT's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from robollm.export.beit3_graph import EncoderShape, build_backbone
from robollm.export.sketch_weights import encoder_weights

BACKBONES = {
    "plain": {},
    "windows": {"window": 4, "global_blocks": (2,)},
    "adapters": {"adapters": ("identification",), "alphas": {"identification": 2.0}},
}


def backbone(**options: Any) -> onnx.ModelProto:
    """A small encoder with drawn positions; `adapters` as `build_backbone` takes them."""
    rng = np.random.default_rng(0)
    dim, depth = 16, 3
    weights = encoder_weights(rng, EncoderShape(dim, depth, 4 * dim, 16, 14, 2))
    weights["pos_embed"] = rng.standard_normal(weights["pos_embed"].shape).astype(np.float32)
    for task in options.get("adapters", ()):
        for i in range(depth):
            for part in ("extractor", "enhancer"):
                name = f"blocks.{i}.adapters.{task}.{part}"
                weights |= {
                    f"{name}.down.weight": rng.standard_normal((4, dim)).astype(np.float32),
                    f"{name}.down.bias": np.zeros(4, np.float32),
                    f"{name}.up.weight": rng.standard_normal((dim, 4)).astype(np.float32),
                    f"{name}.up.bias": np.zeros(dim, np.float32),
                }
    return build_backbone(weights, heads=2, **options)


def images(*shape: int) -> NDArray[np.float32]:
    """Seeded noise."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def kinds(model: onnx.ModelProto) -> set[str]:
    """The operators of a graph."""
    return {node.op_type for node in model.graph.node}
