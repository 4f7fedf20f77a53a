"""The sketch with all the heads that a bundle may have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from robollm.export import head_graphs as heads
from robollm.export.writer import write_bundle

DIM, EMBEDDING, CLASSES = 32, 16, 3
VIEWS = ["PickRGB", "ToteWallRGB", "OnArmLowRGB"]


def write_whole(sketch: Path, out: Path) -> Path:
    """Write the sketch with fusion, defects on sequences with references, and regions."""
    rng = np.random.default_rng(11)

    def w(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) / 4

    projection, classify, bias = w(EMBEDDING, DIM), w(CLASSES, DIM), w(CLASSES)
    compare = heads.Compare(w(DIM), (w(8, 4 * DIM), w(8)), (w(CLASSES, 8), w(CLASSES)))
    norm = (np.ones(DIM, np.float32), np.zeros(DIM, np.float32))
    layers = (w(24, 3 * DIM), w(24)), (w(DIM, 24), w(DIM))
    card = json.loads((sketch / "bundle.json").read_text())
    models = {name: (sketch / name).read_bytes() for name in card.pop("files")}
    models |= {
        "identification.onnx": heads.build_identification(projection, features=True),
        "fusion.onnx": heads.build_fusion(w(3, DIM), *layers, projection),
        "defects.onnx": heads.build_defects(norm, classify, bias, compare=compare, features=True),
        "defects_sequence.onnx": heads.build_defects_sequence(
            classify, bias, pool="max", compare=compare
        ),
        "regions.onnx": heads.build_regions(DIM, patch=16),
    }
    card["graphs"] = {name.removesuffix(".onnx"): name for name in models}
    card["identification"] = {"views": VIEWS}
    return write_bundle(out, models, card)
