"""What the card of a bundle (`bundle.json`) says, part by part."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robollm.core.content import WAYS
from robollm.core.defects import NOMINAL, OVER_VIEWS
from robollm.core.letterbox import FITS

GRAPHS = ("backbone", "proposals", "rois", "identification", "defects")
"""Roles that every bundle has a graph for; docs/bundle.md says what goes in and out of each."""
MORE_GRAPHS = ("fusion", "defects_sequence", "regions")
"""Roles that a bundle may have: heads for several views, and pooling from a tote's own map."""
OPSET = 17
"""Of the default domain, in which all graphs of a bundle are written."""
REFERENCE = "fp32"
PRECISIONS = (REFERENCE, "bf16", "fp16", "int8", "int8-static")
"""Variants that a bundle may have; all have the first. bf16 has no files: it is arithmetic."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """One input geometry: (height, width) px, and how a picture is fitted into it."""

    hw: tuple[int, int]
    fit: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Calibrated decision values of a bundle.

    Attributes:
        score_min: instances below it are not published.
        mask_min: mask probability from which a pixel belongs to an instance.
        accept: best cosine at or below it is unknown.
        margin: two best cosines closer than this are ambiguous.
        id_temperature: softmax temperature of identification.
        defects: defect class -> probability from which it is decided.
        defect_temperature: softmax temperature of the defect logits.
        over_views: defect class -> one of `core.defects.OVER_VIEWS`, which its threshold is for;
            "any" where it says nothing.
    """

    score_min: float
    mask_min: float
    accept: float
    margin: float
    id_temperature: float
    defects: Mapping[str, float]
    defect_temperature: float
    over_views: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variant:
    """One precision in which a bundle may run. What stands in the card was accepted by metric.

    Attributes:
        name: one of `PRECISIONS`.
        graphs: role -> file, of every role that the bundle has.
        parity: output -> how far it is from the reference, as the export measured it.
        metrics: task metric -> value on the card's data; empty when nothing was measured.
        loss: task metric -> points (of 100) lost against the reference.
    """

    name: str
    graphs: Mapping[str, Path]
    parity: Mapping[str, Any]
    metrics: Mapping[str, float]
    loss: Mapping[str, float]


def read_canvas(data: Mapping[str, Any], patch: int, name: str) -> Canvas:
    """`input.tote` or `input.crop`. Raises KeyError, TypeError or ValueError, as all here."""
    h, w, fit = data["height"], data["width"], data["fit"]
    if type(h) is not int or type(w) is not int or h <= 0 or w <= 0 or h % patch or w % patch:
        raise ValueError(f"input.{name} is {w}x{h} px, want positive multiples of {patch}")
    if fit not in FITS:
        raise ValueError(f"input.{name}.fit is {fit!r}, want one of {', '.join(FITS)}")
    return Canvas((h, w), fit)


def read_way(crop: Mapping[str, Any]) -> str:
    """`input.crop.reference`, if it is there: what is looked at of a reference picture."""
    way = crop.get("reference", WAYS[0])
    if way not in WAYS:
        raise ValueError(f"input.crop.reference is {way!r}, want one of {', '.join(WAYS)}")
    return str(way)


def read_three(values: Any, name: str) -> tuple[float, float, float]:
    """`input.mean` or `input.std`: one number per RGB channel, of values in [0, 1].

    The limits of `std` leave room for 1/255, of models that want 0 to 255, and none for numbers
    that are counted in grey levels.
    """
    a, b, c = (float(v) for v in values)
    low, high = min(a, b, c), max(a, b, c)
    finite = all(math.isfinite(v) for v in (a, b, c))  # min and max may pass over NaN
    if name == "std" and not (finite and low > 0.001 and high <= 10):
        raise ValueError(f"input.std is {values}, want more than 0.001 and at most 10")
    if name == "mean" and not (finite and low >= 0 and high <= 1):
        raise ValueError(f"input.mean is {values}, want 0 to 1: it is of values in that range")
    return a, b, c


def refuse_other_opset(opset: Any) -> None:
    """`opset`, which is not a choice: what was written and tested is one."""
    if type(opset) is not int or opset != OPSET:
        raise ValueError(f"opset is {opset!r}, want {OPSET}")


def _between(value: Any, low: float, high: float, name: str) -> float:
    number = float(value)
    if not low <= number <= high:  # NaN too
        raise ValueError(f"{name} is {value}, want {low:g} to {high:g}")
    return number


def read_thresholds(data: Mapping[str, Any], labels: tuple[str, ...]) -> Thresholds:
    """`thresholds`, with one for every defect among `labels`."""
    seg, ident, defects = data["segmentation"], data["identification"], data["defects"]
    kinds = [name for name in labels if name != NOMINAL]
    return Thresholds(
        score_min=_between(seg["score_min"], 0, 1, "thresholds.segmentation.score_min"),
        mask_min=_between(seg["mask_min"], 0, 1, "thresholds.segmentation.mask_min"),
        accept=_between(ident["accept"], -1, 1, "thresholds.identification.accept"),
        margin=_between(ident["margin"], 0, 2, "thresholds.identification.margin"),
        id_temperature=_between(
            ident["temperature"], 1e-4, 1e3, "thresholds.identification.temperature"
        ),
        defects={k: _between(defects[k], 1e-6, 1 - 1e-6, f"thresholds.defects.{k}") for k in kinds},
        defect_temperature=_between(
            defects["temperature"], 1e-4, 1e3, "thresholds.defects.temperature"
        ),
        over_views=_ways(data.get("over_views", {}), kinds),
    )


def _ways(data: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, str]:
    """`thresholds.over_views`, if it is there: how a pick's views are joined for each defect."""
    for kind, way in data.items():
        if kind not in kinds or way not in OVER_VIEWS:
            raise ValueError(
                f"thresholds.over_views has {kind!r}: {way!r}, want of {', '.join(kinds)} one of "
                f"{', '.join(OVER_VIEWS)}"
            )
    return dict(data)


def embedding_digest(card: Mapping[str, Any]) -> str:
    """SHA-256 of what makes a reference embedding, from a card (`bundle.json`), 64 hex digits."""
    graphs, geometry = card["graphs"], card["input"]
    makes_embeddings = {
        "files": [card["files"][graphs[r]]["sha256"] for r in ("backbone", "identification")],
        "input": {k: geometry[k] for k in ("channel_order", "mean", "std", "patch", "crop")},
        "adapters": list(card["adapters"]),
    }
    return hashlib.sha256(json.dumps(makes_embeddings, sort_keys=True).encode()).hexdigest()


def read_variants(folder: Path, data: Mapping[str, Any]) -> dict[str, Variant]:
    """`variants`, with the files of `graphs` where a variant has none of its own."""
    roles = data["graphs"]
    unknown = sorted(set(roles) - {*GRAPHS, *MORE_GRAPHS})
    lost = [role for role in GRAPHS if role not in roles]
    if lost or unknown:
        raise ValueError(f"graphs lacks {lost} and has unknown {unknown}")
    variants = {}
    for name, about in data["variants"].items():
        files = {**roles, **about.get("graphs", {})}
        missing = sorted(set(files.values()) - set(data["files"]))
        if name == REFERENCE and files != roles:  # a gallery's digest is taken of `graphs`
            raise ValueError(f"variant {REFERENCE!r} has graphs of its own, want those of `graphs`")
        if name not in PRECISIONS or set(files) - set(roles) or missing:
            raise ValueError(
                f"variant {name!r} has graphs {sorted(files)}, without a file: {missing}; want "
                f"one of {', '.join(PRECISIONS)} with graphs of {', '.join(roles)}"
            )
        numbers = {
            kind: {str(k): float(v) for k, v in about.get(kind, {}).items()}
            for kind in ("metrics", "loss")
        }
        graphs = {role: folder / file for role, file in files.items()}
        variants[name] = Variant(name, graphs, dict(about.get("parity", {})), **numbers)
    if REFERENCE not in variants:
        raise ValueError(f"variants are {list(variants)}, want {REFERENCE!r} among them")
    return variants
