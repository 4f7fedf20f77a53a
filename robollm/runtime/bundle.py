"""Read and verify a model bundle: a folder of ONNX graphs and the card that explains them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robollm.core.defects import NOMINAL
from robollm.core.errors import ModelFileError
from robollm.core.letterbox import FITS

FORMAT = "robollm-bundle"
FORMAT_VERSION = 1
GRAPHS = ("backbone", "segmentation", "identification", "defects")
STATUS = ("untrained", "trained")


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
    """

    score_min: float
    mask_min: float
    accept: float
    margin: float
    id_temperature: float
    defects: Mapping[str, float]
    defect_temperature: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Every file has the size and sha256 that `bundle.json` promises.

    Attributes:
        folder: where it lies.
        name: the bundle's name.
        version: the bundle's version.
        status: "trained" or "untrained".
        sha256: digest of bundle.json, hence of every file it names: identifies the bundle.
        embedding_sha256: digest of what makes an embedding (backbone, identification graph, crop
            geometry, mean, std): a gallery belongs to exactly this.
        graphs: role -> file.
        tote: input geometry of tote images.
        crop: input geometry of crops and views.
        mean: per RGB channel, in units of [0, 1].
        std: per RGB channel, in units of [0, 1].
        patch: canvas px per cell of the backbone's map.
        embedding_dim: length of an embedding.
        instance_labels: class names of the segmentation head.
        defect_labels: class names of the defect head, in the order of its logits.
        thresholds: calibrated decision values.
        provenance: where it comes from (data, seed, program, licence ...), for people.
        metrics: what was measured on it; empty when nothing was.
    """

    folder: Path
    name: str
    version: str
    status: str
    sha256: str
    embedding_sha256: str
    graphs: Mapping[str, Path]
    tote: Canvas
    crop: Canvas
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int
    embedding_dim: int
    instance_labels: tuple[str, ...]
    defect_labels: tuple[str, ...]
    thresholds: Thresholds
    provenance: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def trained(self) -> bool:
        """False for random weights, whose results mean nothing."""
        return self.status == "trained"

    @property
    def title(self) -> str:
        """Name, version and short digest, with a loud mark if untrained."""
        mark = "" if self.trained else " UNTRAINED"
        return f"{self.name} {self.version} ({self.sha256[:12]}){mark}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_bundle(folder: Path, *, allow_untrained: bool = False) -> Bundle:
    """Read `folder/bundle.json` and verify every file it names.

    Args:
        folder: the bundle.
        allow_untrained: accept random weights.

    Raises:
        ModelFileError: for a folder that is missing or no bundle, an unknown format version, a
            file that is missing, truncated or changed, contradictory metadata, or an untrained
            bundle without `allow_untrained`.
    """
    card = folder / "bundle.json"
    if not card.is_file():
        raise ModelFileError(
            f"no model bundle at {str(folder)!r}: there is no bundle.json",
            fix="set the parameter `bundle` to a bundle folder; "
            "`robollm sketch-bundle --out sketch` writes one to try things out",
        )
    raw = card.read_bytes()
    try:
        data = json.loads(raw)
    except (UnicodeDecodeError, json.JSONDecodeError) as e:
        raise ModelFileError(
            f"{card} is not JSON: {e}", fix="copy or export the bundle again"
        ) from e
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ModelFileError(
            f"{card} is not a robollm bundle: format is "
            f"{data.get('format') if isinstance(data, dict) else type(data).__name__!r}, "
            f"want {FORMAT!r}",
            fix="point `bundle` at a folder written by robollm",
        )
    if data.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{card} has format_version {data.get('format_version')!r}, this robollm reads "
            f"{FORMAT_VERSION}",
            fix="export the bundle again with this version of robollm",
        )
    try:
        bundle = _parse(folder, data, hashlib.sha256(raw).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        what = f"the key {e} is missing" if isinstance(e, KeyError) else str(e)
        raise ModelFileError(
            f"{card} is malformed: {what}", fix="copy or export the bundle again"
        ) from e
    if not bundle.trained and not allow_untrained:
        raise ModelFileError(
            f"bundle {bundle.name!r} has random weights (status: untrained): "
            "its verdicts mean nothing",
            fix="use a trained bundle, or set allow_untrained: true for a test or demo",
        )
    return bundle


def _verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, want in files.items():
        if Path(name).name != name:
            raise ValueError(f"file name {name!r} leaves the folder")
        path = folder / name
        if not path.is_file():
            raise ModelFileError(f"{path} is missing", fix="copy the whole bundle folder again")
        size = path.stat().st_size
        if size != want["bytes"]:
            raise ModelFileError(
                f"{path} has {size} bytes, want {want['bytes']}: it is truncated or another file",
                fix="copy the whole bundle folder again",
            )
        got = file_sha256(path)
        if got != want["sha256"]:
            raise ModelFileError(
                f"{path} is damaged or was changed: sha256 is {got[:12]}..., "
                f"want {str(want['sha256'])[:12]}...",
                fix="copy the whole bundle folder again",
            )


def _canvas(data: Mapping[str, Any], patch: int, name: str) -> Canvas:
    h, w, fit = data["height"], data["width"], data["fit"]
    if type(h) is not int or type(w) is not int or h <= 0 or w <= 0 or h % patch or w % patch:
        raise ValueError(f"input.{name} is {w}x{h} px, want positive multiples of {patch}")
    if fit not in FITS:
        raise ValueError(f"input.{name}.fit is {fit!r}, want one of {', '.join(FITS)}")
    return Canvas((h, w), fit)


def _three(values: Any, name: str) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    if not all(math.isfinite(v) for v in (a, b, c)) or (name == "std" and min(a, b, c) <= 0):
        raise ValueError(f"input.{name} is {values}")
    return a, b, c


def _between(value: Any, low: float, high: float, name: str) -> float:
    number = float(value)
    if not low <= number <= high:  # NaN too
        raise ValueError(f"{name} is {value}, want {low:g} to {high:g}")
    return number


def _thresholds(data: Mapping[str, Any], labels: tuple[str, ...]) -> Thresholds:
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
    )


def _parse(folder: Path, data: Mapping[str, Any], sha256: str) -> Bundle:
    if data["status"] not in STATUS:
        raise ValueError(f"status is {data['status']!r}, want one of {', '.join(STATUS)}")
    lost = [role for role in GRAPHS if data["graphs"].get(role) not in data["files"]]
    if lost:
        raise ValueError(f"no file for the graphs {', '.join(lost)}")
    _verify(folder, data["files"])
    geometry = data["input"]
    if geometry["channel_order"] != "rgb":
        raise ValueError(f"input.channel_order is {geometry['channel_order']!r}, want 'rgb'")
    patch = geometry["patch"]
    if type(patch) is not int or patch < 1:
        raise ValueError(f"input.patch is {patch!r}, want a whole number > 0")
    labels = tuple(str(v) for v in data["labels"]["defects"])
    if NOMINAL not in labels or len(set(labels)) != len(labels) or len(labels) < 2:
        raise ValueError(f"labels.defects is {list(labels)}, want {NOMINAL!r} and distinct defects")
    instances = tuple(str(v) for v in data["labels"]["segmentation"])
    if not instances:
        raise ValueError("labels.segmentation is empty")
    makes_embeddings = {
        "files": [
            data["files"][data["graphs"][r]]["sha256"] for r in ("backbone", "identification")
        ],
        "input": {k: geometry[k] for k in ("channel_order", "mean", "std", "patch", "crop")},
    }
    dim = data["embedding"]["dim"]
    if type(dim) is not int or dim < 1:
        raise ValueError(f"embedding.dim is {dim!r}, want a whole number > 0")
    return Bundle(
        folder=folder,
        name=str(data["name"]),
        version=str(data["version"]),
        status=str(data["status"]),
        sha256=sha256,
        embedding_sha256=hashlib.sha256(
            json.dumps(makes_embeddings, sort_keys=True).encode()
        ).hexdigest(),
        graphs={role: folder / data["graphs"][role] for role in GRAPHS},
        tote=_canvas(geometry["tote"], patch, "tote"),
        crop=_canvas(geometry["crop"], patch, "crop"),
        mean=_three(geometry["mean"], "mean"),
        std=_three(geometry["std"], "std"),
        patch=patch,
        embedding_dim=dim,
        instance_labels=instances,
        defect_labels=labels,
        thresholds=_thresholds(data["thresholds"], labels),
        provenance=dict(data.get("provenance", {})),
        metrics=dict(data.get("metrics", {})),
    )
