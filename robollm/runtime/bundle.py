"""Read and verify a model bundle: a folder of ONNX graphs and the card that explains them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robollm.core.defects import NOMINAL
from robollm.core.errors import ModelFileError
from robollm.core.fuse import our_views
from robollm.runtime.card import (
    GRAPHS,
    MORE_GRAPHS,
    PRECISIONS,
    REFERENCE,
    Canvas,
    Thresholds,
    Variant,
    embedding_digest,
    read_canvas,
    read_three,
    read_thresholds,
    read_variants,
    read_way,
    refuse_other_opset,
)

__all__ = [
    "FORMAT", "FORMAT_VERSION", "GRAPHS", "MORE_GRAPHS", "PRECISIONS", "REFERENCE", "STATUS",
    "Bundle", "Canvas", "Thresholds", "Variant", "embedding_digest", "file_sha256", "load_bundle",
]  # fmt: skip

FORMAT = "robollm-bundle"
FORMAT_VERSION = 2
STATUS = ("untrained", "trained")
PRE_PICK = "PickRGB"  # ARMBench's view of the object in its tote


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Every file has the size and sha256 that `bundle.json` promises.

    Attributes:
        folder: where it lies.
        name: the bundle's name.
        version: the bundle's version.
        status: "trained" or "untrained".
        sha256: digest of bundle.json, hence of every file it names: identifies the bundle.
        embedding_sha256: digest of what makes a reference embedding (backbone and identification
            graph in fp32, crop geometry, mean, std): a gallery belongs to exactly this, and serves
            every variant, because a variant was accepted by its recall on such a gallery.
        variants: precision -> files and what they cost; always has `REFERENCE`.
        proposals: boxes that go to the RoI heads, unless a setting says otherwise.
        adapters: tasks that switch adapters on in the backbone: its input `task` is 0 for none,
            i + 1 for `adapters[i]`; empty: the backbone has no such input.
        views: ARMBench's names of the views that `fusion` takes, in its order; empty: no fusion.
        tote: input geometry of tote images.
        crop: input geometry of crops and views.
        reference_crop: one of `core.content.WAYS`: what is looked at of a reference picture.
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
    variants: Mapping[str, Variant]
    proposals: int
    adapters: tuple[str, ...]
    views: tuple[str, ...]
    tote: Canvas
    crop: Canvas
    reference_crop: str
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
    def graphs(self) -> Mapping[str, Path]:
        """Role -> file of the reference."""
        return self.variants[REFERENCE].graphs

    def variant(self, precision: str) -> Variant:
        """The files of one precision.

        Raises:
            ModelFileError: if the bundle hasn't got it.
        """
        if precision not in self.variants:
            raise ModelFileError(
                f"bundle {self.name!r} has no variant {precision!r}, it has "
                f"{', '.join(self.variants)}",
                fix=f"set precision: auto, or export with --variants {REFERENCE},{precision}",
            )
        return self.variants[precision]

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
            fix="set `bundle` to a bundle folder or to the name of one that robollm ships; "
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


def _parse(folder: Path, data: Mapping[str, Any], sha256: str) -> Bundle:
    if data["status"] not in STATUS:
        raise ValueError(f"status is {data['status']!r}, want one of {', '.join(STATUS)}")
    _verify(folder, data["files"])
    refuse_other_opset(data["opset"])
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
    variants = read_variants(folder, data)
    proposals = data["detector"]["proposals"]
    if type(proposals) is not int or not 1 <= proposals <= 10_000:
        raise ValueError(f"detector.proposals is {proposals!r}, want 1 to 10000")
    views = tuple(str(v) for v in data["identification"]["views"])
    joins = "fusion" in variants[REFERENCE].graphs
    distinct = len(set(our_views(views))) == len(views)
    if bool(views) != joins or not distinct or (joins and PRE_PICK not in views):
        raise ValueError(
            f"identification.views is {list(views)}, want names with a fusion graph, and none "
            f"without: each once, {PRE_PICK} among them"
        )
    adapters = tuple(str(v) for v in data["adapters"])
    if set(adapters) - {"segmentation", "identification", "defects"} or len(set(adapters)) != len(
        adapters
    ):
        raise ValueError(f"adapters is {list(adapters)}, want tasks, each once")
    dim = data["embedding"]["dim"]
    if type(dim) is not int or dim < 1:
        raise ValueError(f"embedding.dim is {dim!r}, want a whole number > 0")
    return Bundle(
        folder=folder,
        name=str(data["name"]),
        version=str(data["version"]),
        status=str(data["status"]),
        sha256=sha256,
        embedding_sha256=embedding_digest(data),
        variants=variants,
        proposals=proposals,
        adapters=adapters,
        views=views,
        tote=read_canvas(geometry["tote"], patch, "tote"),
        crop=read_canvas(geometry["crop"], patch, "crop"),
        reference_crop=read_way(geometry["crop"]),
        mean=read_three(geometry["mean"], "mean"),
        std=read_three(geometry["std"], "std"),
        patch=patch,
        embedding_dim=dim,
        instance_labels=instances,
        defect_labels=labels,
        thresholds=read_thresholds(data["thresholds"], labels),
        provenance=dict(data.get("provenance", {})),
        metrics=dict(data.get("metrics", {})),
    )
