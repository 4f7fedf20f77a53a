"""Write a sketch bundle: the real graphs and bindings, small, with seeded random weights.

A sketch knows no products and no defects. It lets the whole path run, in tests and in the first
demo, without a download; its `bundle.json` says "untrained". The same seed and size give the
same bytes on the same machine.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from robollm import __version__
from robollm.core.errors import ConfigError
from robollm.data.armbench_defects import LABELS
from robollm.export.beit3_graph import EncoderShape, build_backbone
from robollm.export.card import DEFAULT_THRESHOLDS
from robollm.export.detector_graph import DetectorRules, build_proposals, build_rois
from robollm.export.graphs import Array
from robollm.export.head_graphs import build_defects, build_identification, build_regions
from robollm.export.pictures import Rgb, plain, texture, to_input, tote
from robollm.export.sketch_weights import (
    SPREAD,
    centred_linear,
    detector_weights,
    encoder_weights,
    run,
)
from robollm.export.writer import refuse_foreign, write_bundle
from robollm.runtime.bundle import REFERENCE
from robollm.runtime.card import OPSET

PATCH = 16
GRID = 14  # side of the position table: BEiT-3 at 224 px
TOTE_HW = (384, 480)
CROP_HW = (224, 224)
GREYS = (0.1, 0.5, 0.9)
Models = dict[str, onnx.ModelProto]


@dataclass(frozen=True, slots=True)
class SketchSize:
    """How large a sketch is. Depth and dim decide what it costs to run.

    Attributes:
        dim: channels of the backbone, C.
        depth: blocks of the backbone.
        heads: attention heads; divides `dim`.
        embedding: length of a product embedding, D.
        channels: channels of the detector's pyramid and heads.
    """

    dim: int = 96
    depth: int = 4
    heads: int = 3
    embedding: int = 64
    channels: int = 32

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "embedding", "channels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, want at least 1")
        if self.dim % (2 * self.heads):
            raise ConfigError(
                f"dim {self.dim} is no multiple of twice the {self.heads} heads",
                fix="take dim 96 and 3 heads, or dim 32 and 2",
            )


def write_sketch_bundle(
    out: Path,
    *,
    seed: int = 0,
    size: SketchSize = SketchSize(),
    tote_hw: tuple[int, int] = TOTE_HW,
    crop_hw: tuple[int, int] = CROP_HW,
    name: str = "sketch",
) -> Path:
    """Write the bundle's folder in one step: it is there whole, or as it was before.

    Args:
        out: the folder. A bundle that is already there is replaced; an empty folder is filled.
        seed: of every random number.
        size: how large the models are.
        tote_hw: height and width of a tote's canvas, px, multiples of 16.
        crop_hw: height and width of a crop's canvas, px, multiples of 16.
        name: the bundle's name.

    Returns:
        `out`.

    Raises:
        ConfigError: a canvas side is no positive multiple of 16.
        ModelFileError: `out` is something else than a bundle. Nothing was written.
    """
    for side in (*tote_hw, *crop_hw):
        if side < PATCH or side % PATCH:
            raise ConfigError(f"a canvas side is {side} px, want a multiple of {PATCH}")
    refuse_foreign(out)  # before the work is done
    models = sketch_models(seed, size, tote_hw=tote_hw, crop_hw=crop_hw)
    card = _card(seed, size, tote_hw, crop_hw, name)
    card["graphs"] = {role: f"{role}.onnx" for role in models}
    return write_bundle(out, {f"{role}.onnx": model for role, model in models.items()}, card)


def sketch_models(
    seed: int, size: SketchSize, *, tote_hw: tuple[int, int], crop_hw: tuple[int, int]
) -> Models:
    """Draw the weights, centre them on synthetic pictures, and build the graphs.

    Returns:
        Models by role, checked by `onnx.checker`.
    """
    rng = np.random.default_rng(seed)
    shape = EncoderShape(size.dim, size.depth, 4 * size.dim, PATCH, GRID, size.heads)
    backbone = build_backbone(encoder_weights(rng, shape), heads=size.heads)

    def encode(pictures: list[Rgb]) -> tuple[Array, Array]:
        found = run(backbone, ({"image": to_input([p])} for p in pictures), ["map", "cls"])
        maps, tokens = zip(*found, strict=True)
        return np.concatenate(maps), np.concatenate(tokens)

    crops, cls = encode([texture(rng, crop_hw) for _ in range(24)])
    identification = build_identification(*centred_linear(rng, cls, size.embedding, spread=1.0))
    norm = (np.ones(size.dim, np.float32), np.zeros(size.dim, np.float32))
    mean = crops.mean((2, 3))
    mean = (mean - mean.mean(1, keepdims=True)) / mean.std(1, keepdims=True)
    defects = build_defects(norm, *centred_linear(rng, mean, len(LABELS), spread=SPREAD))
    rules = DetectorRules()
    weights = detector_weights(
        rng,
        (size.dim, size.channels, 2 * size.channels),
        encode([tote(rng, tote_hw) for _ in range(8)])[0],
        encode([plain(tote_hw, grey) for grey in GREYS])[0],
        patch=PATCH,
        rules=rules,
    )
    models = {
        "backbone": backbone,
        "proposals": build_proposals(weights, patch=PATCH, rules=rules),
        "rois": build_rois(weights, rules=rules),
        "identification": identification,
        "defects": defects,
        "regions": build_regions(size.dim, patch=PATCH),
    }
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)
    return models


def _card(
    seed: int, size: SketchSize, tote_hw: tuple[int, int], crop_hw: tuple[int, int], name: str
) -> dict[str, Any]:
    """What `bundle.json` says about a sketch, but for its graphs."""

    def canvas(hw: tuple[int, int]) -> dict[str, Any]:
        return {"height": hw[0], "width": hw[1], "fit": "letterbox"}

    return {
        "name": name,
        "version": __version__,
        "status": "untrained",
        "opset": OPSET,
        "variants": {REFERENCE: {}},
        "input": {
            "channel_order": "rgb",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "patch": PATCH,
            "tote": canvas(tote_hw),
            "crop": canvas(crop_hw),
        },
        "detector": {"proposals": DetectorRules().proposals},
        "adapters": [],
        "identification": {"views": []},
        "embedding": {"dim": size.embedding},
        "labels": {"segmentation": ["object"], "defects": list(LABELS)},
        "thresholds": DEFAULT_THRESHOLDS,
        "provenance": {
            "program": "robollm sketch-bundle",
            "seed": seed,
            "robollm_version": __version__,
            "created": None,
            "data": "none: seeded random weights, biases centred on seeded synthetic pictures",
            "licence": "Apache-2.0",
            "command": _command(seed, size, tote_hw, crop_hw, name),
        },
        "metrics": {},
    }


def _command(
    seed: int, size: SketchSize, tote_hw: tuple[int, int], crop_hw: tuple[int, int], name: str
) -> str:
    """A shell command that writes the same bytes again. The CLI has no flag for odd sizes."""
    if (size, tote_hw, crop_hw, name) == (SketchSize(), TOTE_HW, CROP_HW, "sketch"):
        return f"robollm sketch-bundle --seed {seed} --out sketch"
    call = (
        f"write_sketch_bundle(Path('bundle'), seed={seed}, size={size!r}, tote_hw={tote_hw}, "
        f"crop_hw={crop_hw}, name={name!r})"
    )
    return f"python -c {shlex.quote(f'from robollm.export.sketch import *; {call}')}"
