"""Who is asked: the bundle through the product's own `Perceiver`, an oracle, and blind chance.

One sample is one call: neither company nor order changes an answer. Only the oracle sees truth.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError
from robollm.core.frame import Frame
from robollm.core.fuse import our_views
from robollm.core.masks import MaskWindow
from robollm.core.settings import RuntimeConfig
from robollm.data.armbench_defects import LABELS
from robollm.eval.records import Json
from robollm.gallery.records import MadeWith
from robollm.metrics.rle import window_rle
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

Vector = NDArray[np.float32]
TASKS = frozenset({"segmentation", "identification", "defects"})
MOST = 100
"""Instances per image that count, as in COCO."""
PRE_PICK = "PickRGB"
N3 = ("PickRGB", "ToteWallRGB", "OnArmLowRGB")
"""The three views of the published N=3, as in training."""
_BASELINES = {
    "majority": "majority",
    "colour-histogram": "colour_histogram",
    "thumbnail": "thumbnail",
    "efficientnet-lite0": "efficientnet",
}
BASELINES = tuple(_BASELINES)
NAMES = ("bundle", "oracle", "chance", *BASELINES)


class Predictor(Protocol):
    """What a desk asks. The truth is given to every method; only the oracle may read it.

    Attributes:
        name: one of `NAMES`.
        tasks: of `TASKS`, those that it can do; videos are defects.
        classes: how its instance labels were made, a key of `robollm.metrics.instances.PROTOCOLS`.
        made_with: what its reference vectors belong to.
        dim: length of an embedding; 0 without identification.
    """

    name: str
    tasks: frozenset[str]
    classes: str
    made_with: MadeWith
    dim: int

    def about(self) -> Json:
        """For `run.json`: `name`, and for a bundle what identifies it."""
        ...

    def segment(self, frame: Frame, truth: Sequence[Json], laps: Laps) -> list[Json]:
        """Instances as `SegmentationRecord.found` has them, best first."""
        ...

    def embed(self, views: Mapping[str, Region], truth: str, laps: Laps) -> dict[str, Vector]:
        """The queries of a pick.

        Args:
            views: ARMBench's name of a view -> where it shows the object, at least one.
            truth: the true product.
            laps: takes stage times.

        Returns:
            `n1` (from PickRGB, if it is there), `n3` (all views as one) and each view's name ->
            (D,) float32, unit length.
        """
        ...

    def reference(self, region: Region, product: str) -> Vector:
        """(D,) float32, unit length: what a reference image of a product becomes."""
        ...

    def inspect(self, region: Region, truth: str, laps: Laps) -> dict[str, float]:
        """Class of `LABELS` -> probability; truth: the label."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def make(name: str, config: RuntimeConfig, options: Mapping[str, Any]) -> Predictor:
    """Make a predictor by name.

    Args:
        name: of `NAMES`.
        config: of the bundle.
        options: of baselines: `data` (root folder) and `split` that they may learn from (never the
            one that is evaluated), `seed`.

    Raises:
        EvalError: for an unknown name, or a baseline that needs what is not installed.
        ModelFileError: see `Perceiver`.
    """
    seed = int(options.get("seed", 0))
    if name == "bundle":
        return BundlePredictor(config)
    if name == "oracle":
        return Oracle()
    if name == "chance":
        return Chance(seed)
    if name in _BASELINES:
        module = importlib.import_module(f"robollm.eval.baselines.{_BASELINES[name]}")
        made: Predictor = module.make(options)
        return made
    raise EvalError(
        f"no predictor is called {name!r}, want one of {', '.join(NAMES)}", fix="choose one"
    )


class BundlePredictor:
    """A bundle, asked as the nodes ask it.

    Instances are not cut off at the bundle's `score_min`: average precision wants them all.

    Args:
        config: which bundle, and how it runs.

    Raises:
        ModelFileError: see `Perceiver`.
    """

    name = "bundle"
    tasks = TASKS

    def __init__(self, config: RuntimeConfig) -> None:
        self.perceiver = Perceiver(config)
        bundle = self.perceiver.bundle
        self.classes = classes_of(bundle.instance_labels, bundle.metrics)
        self.made_with = MadeWith(bundle.embedding_sha256, bundle.title)
        self.dim = bundle.embedding_dim

    def about(self) -> Json:
        """See `Predictor`."""
        bundle = self.perceiver.bundle
        return {
            "name": self.name,
            "bundle": str(bundle.folder),
            "bundle_name": bundle.name,
            "version": bundle.version,
            "sha256": bundle.sha256,
            "trained": bundle.trained,
            "trained_on": dict(bundle.provenance.get("trained_on", {})),
            "precision": self.perceiver.precision,
            "provider": self.perceiver.config.provider,
            "classes": self.classes,
            "fused_views": list(self.perceiver.fused_views),
            "defect_thresholds": dict(bundle.thresholds.defects),
            "defect_over_views": dict(bundle.thresholds.over_views),
        }

    def segment(self, frame: Frame, truth: Sequence[Json], laps: Laps) -> list[Json]:
        """See `Predictor`."""
        found = self.perceiver.segment(frame, score_min=0.0, max_instances=MOST, laps=laps)
        names = self.perceiver.bundle.instance_labels
        with laps.stage("encode"):
            return [
                instance(names[label], box, window_rle(mask, found.hw), score)
                for label, box, mask, score in zip(
                    found.labels.tolist(), found.boxes, found.masks, found.scores.tolist(),
                    strict=True,
                )
            ]  # fmt: skip

    def embed(self, views: Mapping[str, Region], truth: str, laps: Laps) -> dict[str, Vector]:
        """See `Predictor`. The views share one look: their features are remembered."""
        ours = dict(zip(our_views(tuple(views)), views.values(), strict=True))
        each = self.perceiver.embed(list(views.values()), laps=laps)
        out = dict(zip(views, each, strict=True))
        fused = self.perceiver.fused_views
        known = {n: r for n, r in ours.items() if not fused or n in fused}
        if known:
            out["n3"] = self.perceiver.embed_views(known, laps=laps)
        if "image" in known:
            out["n1"] = self.perceiver.embed_views({"image": known["image"]})
        return out

    def reference(self, region: Region, product: str) -> Vector:
        """See `Predictor`."""
        return np.asarray(self.perceiver.embed_references([region.frame])[0], np.float32)

    def inspect(self, region: Region, truth: str, laps: Laps) -> dict[str, float]:
        """See `Predictor`."""
        return dict(self.perceiver.inspect([region], laps=laps)[0])

    def close(self) -> None:
        """See `Predictor`."""
        self.perceiver.close()


class Oracle:
    """Reads the truth: every figure must come out perfect, or the metric is wrong."""

    name = "oracle"
    tasks = TASKS
    classes = "two"
    made_with = MadeWith(hashlib.sha256(b"robollm oracle").hexdigest(), "oracle")
    dim = 64

    def about(self) -> Json:
        """See `Predictor`."""
        return {"name": self.name, "classes": self.classes}

    def segment(self, frame: Frame, truth: Sequence[Json], laps: Laps) -> list[Json]:
        """See `Predictor`."""
        keys = ("category", "bbox", "segmentation")
        return [{**{k: t[k] for k in keys}, "score": 1.0} for t in truth if not t["iscrowd"]]

    def embed(self, views: Mapping[str, Region], truth: str, laps: Laps) -> dict[str, Vector]:
        """See `Predictor`."""
        vector = _drawn(self.dim, truth.encode())
        names = (*views, "n3", *(("n1",) if PRE_PICK in views else ()))
        return dict.fromkeys(names, vector)

    def reference(self, region: Region, product: str) -> Vector:
        """See `Predictor`."""
        return _drawn(self.dim, product.encode())

    def inspect(self, region: Region, truth: str, laps: Laps) -> dict[str, float]:
        """See `Predictor`."""
        return {label: float(label == truth) for label in LABELS}

    def close(self) -> None:
        """See `Predictor`."""


class Chance:
    """Answers at random, drawn by the seed and the pixels alone.

    Args:
        seed: of everything.
    """

    name = "chance"
    tasks = TASKS
    classes = "two"
    dim = 64

    def __init__(self, seed: int = 0) -> None:
        self._seed = str(seed).encode()
        digest = hashlib.sha256(b"robollm chance" + self._seed).hexdigest()
        self.made_with = MadeWith(digest, f"chance {seed}")

    def about(self) -> Json:
        """See `Predictor`."""
        return {"name": self.name, "classes": self.classes}

    def segment(self, frame: Frame, truth: Sequence[Json], laps: Laps) -> list[Json]:
        """See `Predictor`: 1 to 20 rectangles anywhere, of any score."""
        rng = _rng(self._digest(Region(frame)))
        out = []
        for _ in range(int(rng.integers(1, 21))):
            x1, x2 = np.sort(rng.integers(0, frame.hw[1] + 1, 2)).tolist()
            y1, y2 = np.sort(rng.integers(0, frame.hw[0] + 1, 2)).tolist()
            if x1 == x2 or y1 == y2:
                continue
            mask = MaskWindow(x1, y1, np.ones((y2 - y1, x2 - x1), np.bool_))
            category = ("tote", "object")[int(rng.integers(2))]
            rle = window_rle(mask, frame.hw)
            out.append(instance(category, (x1, y1, x2, y2), rle, float(rng.random())))
        return sorted(out, key=lambda one: -one["score"])

    def embed(self, views: Mapping[str, Region], truth: str, laps: Laps) -> dict[str, Vector]:
        """See `Predictor`."""
        out = {name: _drawn(self.dim, self._digest(region)) for name, region in views.items()}
        mean = np.sum(list(out.values()), axis=0)
        if PRE_PICK in out:
            out["n1"] = out[PRE_PICK]
        return {**out, "n3": np.asarray(mean / np.linalg.norm(mean), np.float32)}

    def reference(self, region: Region, product: str) -> Vector:
        """See `Predictor`."""
        return _drawn(self.dim, self._digest(region))

    def inspect(self, region: Region, truth: str, laps: Laps) -> dict[str, float]:
        """See `Predictor`."""
        drawn = _rng(self._digest(region)).dirichlet(np.ones(len(LABELS)))
        return dict(zip(LABELS, drawn.tolist(), strict=True))

    def close(self) -> None:
        """See `Predictor`."""

    def _digest(self, region: Region) -> bytes:
        pixels = np.ascontiguousarray(region.pixels)
        return hashlib.sha256(self._seed + pixels.tobytes()).digest()


def instance(
    category: str, box: Sequence[float] | NDArray[Any], rle: Mapping[str, Any], score: float
) -> Json:
    """One instance as records hold it.

    Args:
        category: "tote", "object" or "other".
        box: (x1, y1, x2, y2), source px.
        rle: as pycocotools makes it.
        score: 0 to 1.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    return {
        "category": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": rle_json(rle),
        "score": float(score),
    }


def rle_json(rle: Mapping[str, Any]) -> Json:
    """Compressed run lengths as JSON values."""
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(v) for v in rle["size"]], "counts": text}


def classes_of(labels: Sequence[str], metrics: Mapping[str, Any]) -> str:
    """How a bundle's instance labels were made, see `robollm.metrics.instances.PROTOCOLS`.

    A bundle with one label may know objects alone or have one label for everything; what it was
    judged by tells which. A bundle that was not judged is taken for the latter, RoboLLM's way.
    """
    if "tote" in {label.lower() for label in labels}:
        return "two"
    judged = metrics.get("values", {})
    return "object" if any("segmentation/object_only" in name for name in judged) else "agnostic"


def _rng(seed: bytes) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(seed).digest()[:8], "big"))


def _drawn(dim: int, seed: bytes) -> Vector:
    """A direction, evenly drawn: (D,) float32 of unit length."""
    vector = _rng(seed).standard_normal(dim)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
