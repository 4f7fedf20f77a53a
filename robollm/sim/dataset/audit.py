"""How far tricks get: baselines that know nothing of products or damage, on ARMBench's layouts.

A benchmark that colour alone can solve proves nothing, so every result wants these beside it. Works
on any ARMBench-shaped folder, ARMBench itself included.
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects as defects
from robollm.data import armbench_identification as identification
from robollm.data import armbench_segmentation as segmentation
from robollm.data.armbench_files import write_json
from robollm.data.shortcuts import (
    balanced_accuracy,
    colour_and_area,
    fit_lda,
    fit_neighbours,
    hsv_histogram,
    thumbnail,
)

AUDIT_FILE = "audit.json"
GOALS = {"recall_at_1": 0.35, "balanced_accuracy": 0.60}
"""At most; recall on manifests of `MANIFEST` products."""
MANIFEST = (16, 25)
SMALL_PX, HIDDEN = 32, 0.3
_POLYGONS_CHECKED = 2000

F64 = NDArray[np.float64]
Describe = Callable[[NDArray[np.uint8]], F64]


def audit(dataset: Path, *, most: int = 3000) -> dict[str, Any]:
    """Measure a dataset.

    Args:
        dataset: a folder that holds at least one of ARMBench's task folders.
        most: picks, and images of each defect split, that are looked at; evenly spread.

    Raises:
        ConfigError: if there is no task folder, or one is damaged.
    """
    parts: dict[str, Any] = {}
    if (dataset / segmentation.ROOT).is_dir():
        parts["segmentation"] = _segmentation(dataset / segmentation.ROOT)
    if (dataset / identification.ROOT / identification.SPLIT_FILE).is_file():
        parts["identification"] = _identification(dataset / identification.ROOT, most)
    if (dataset / defects.IMAGE_ROOT / "train.csv").is_file():
        parts["defects"] = _defects(dataset / defects.IMAGE_ROOT, most)
    if not parts:
        raise ConfigError(
            f"{dataset} has none of {segmentation.ROOT}, {identification.ROOT}, "
            f"{defects.IMAGE_ROOT}",
            fix="give the folder that they lie in",
        )
    return {"goals": GOALS, **parts}


def write_audit(dataset: Path, result: dict[str, Any]) -> Path:
    """Write `audit.json` into the dataset; return its path."""
    write_json(dataset / AUDIT_FILE, result, indent=1)
    return dataset / AUDIT_FILE


def _segmentation(root: Path) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for file in sorted(root.glob("*/*.json")):
        if file.stem not in ("train", "val", "test"):
            continue
        data = segmentation.read_split(file)
        names = {c["id"]: str(c["name"]).lower() for c in data["categories"]}
        objects = [a for a in data["annotations"] if names.get(a["category_id"]) != "tote"]
        known = [a["visibility"] for a in objects if "visibility" in a]
        out[f"{file.parent.name}/{file.stem}"] = {
            "images": len(data["images"]),
            "objects": len(objects),
            "under_32x32_px": _part([a["area"] < SMALL_PX**2 for a in objects]),
            "under_30_percent_visible": _part([v < HIDDEN for v in known]),
            "polygon_iou_mean": _polygon_iou(file, data),
        }
    return out


def _polygon_iou(file: Path, data: dict[str, Any]) -> float | None:
    """What the polygons lose: IoU with the exact masks beside them. None: not measured."""
    exact_file = file.with_name(f"{file.stem}-rle.json")
    if not exact_file.is_file() or importlib.util.find_spec("pycocotools") is None:
        return None
    from pycocotools import mask as coco

    exact = {a["id"]: a["segmentation"] for a in segmentation.read_split(exact_file)["annotations"]}
    ious = []
    for one in spaced(data["annotations"], _POLYGONS_CHECKED):
        truth = exact[one["id"]]
        height, width = truth["size"]
        drawn = coco.merge(coco.frPyObjects(one["segmentation"], height, width))
        ious.append(float(coco.iou([drawn], [truth], [0])[0, 0]))
    return _mean(ious)


def _identification(root: Path, most: int) -> dict[str, Any]:
    split = identification.read_split(root)
    picks = list(identification.read_picks(root, spaced(split["testset"], most)))
    describe: dict[str, Describe] = {"hsv_histogram": hsv_histogram, "thumbnail_16x16": thumbnail}
    kept: dict[str, dict[str, list[F64]]] = {name: {} for name in describe}
    hits: dict[tuple[str, str], list[bool]] = {}
    chance: dict[str, list[float]] = {"all": [], "manifest_20": []}
    for pick in picks:
        sets = ["all"] + ["manifest_20"] * (MANIFEST[0] <= len(pick.manifest) < MANIFEST[1])
        for name in sets:
            chance[name].append((pick.truth in pick.manifest) / max(1, len(pick.manifest)))
        shot = _read(pick.views["PickRGB"]) if "PickRGB" in pick.views else None
        for method, function in describe.items():
            found = None
            if shot is not None:
                gallery = {
                    product: _references(root, product, function, kept[method])
                    for product in pick.manifest
                }
                found = _nearest(function(shot), gallery)
            for name in sets:
                hits.setdefault((name, method), []).append(found == pick.truth)
    return {
        name: {
            "picks": len(chance[name]),
            "chance": _mean(chance[name]),
            **{method: _mean(hits.get((name, method), [])) for method in describe},
        }
        for name in ("all", "manifest_20")
    } | {"manifest_sizes": dict(sorted(Counter(len(p.manifest) for p in picks).items()))}


def _references(root: Path, product: str, function: Describe, kept: dict[str, list[F64]]
                ) -> list[F64]:  # fmt: skip
    if product not in kept:
        shots = [_read(file) for file in identification.references(root, product)]
        kept[product] = [function(shot) for shot in shots if shot is not None]
    return kept[product]


def _nearest(query: F64, gallery: dict[str, list[F64]]) -> str | None:
    """The product of the reference with the largest cosine; ties go to the first listed."""
    best, name = -math.inf, None
    for product, vectors in gallery.items():
        for vector in vectors:
            cosine = float(query @ vector)
            if cosine > best:
                best, name = cosine, product
    return name


def _defects(root: Path, most: int) -> dict[str, Any]:
    train, test = (
        _described(root, defects.read_list(root / f"{name}.csv"), most)
        for name in ("train", "test")
    )
    out: dict[str, Any] = {
        "train_images": len(train[1]),
        "test_images": len(test[1]),
        "labels": dict(sorted(Counter(test[1]).items())),
        "chance": 1 / max(1, len(set(test[1]))),
    }
    if len(set(train[1])) < 2 or len(set(test[1])) < 2:
        return out  # one class is no task
    columns = {"colour_area": slice(None), "colour": slice(0, 6), "area": slice(6, None)}
    for name, chosen in columns.items():
        for kind, fit in (("lda", fit_lda), ("neighbours", fit_neighbours)):
            predict = fit(train[0][:, chosen], train[1])
            score = balanced_accuracy(test[1], predict(test[0][:, chosen]))
            out[f"{name}_{kind}"] = round(score, 4)
    return out


def _described(root: Path, inducts: Sequence[str], most: int) -> tuple[F64, list[str]]:
    images = spaced(list(defects.read_images(root, inducts)), most)
    rows, labels = [], []
    for image in images:
        shot = _read(image.path)
        if shot is None:
            continue
        frame = (shot.shape[0], shot.shape[1])
        if image.box is not None:
            x1, y1, x2, y2 = image.box
            shot = shot[y1:y2, x1:x2] if shot[y1:y2, x1:x2].size else shot
        rows.append(colour_and_area(shot, frame))
        labels.append(image.label)
    return np.array(rows, np.float64).reshape(len(rows), -1), labels


def verdicts(result: dict[str, Any]) -> list[tuple[str, float, float, float, bool]]:
    """Return (what, value, chance, goal, reached) of everything that has a goal."""
    rows = []
    part = result.get("identification", {}).get("manifest_20", {})
    for name in ("hsv_histogram", "thumbnail_16x16"):
        if part.get(name) is not None:
            goal = GOALS["recall_at_1"]
            rows.append((f"recall@1, {name}", part[name], part["chance"], goal, part[name] <= goal))
    part = result.get("defects", {})
    for name in sorted(n for n in part if n.endswith(("_lda", "_neighbours"))):
        goal = GOALS["balanced_accuracy"]
        rows.append(
            (f"balanced accuracy, {name}", part[name], part["chance"], goal, part[name] <= goal)
        )
    return rows


def spaced(values: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` of the values, evenly spread."""
    count = min(most, len(values))
    return [values[i * len(values) // count] for i in range(count)]


def _read(file: Path) -> NDArray[np.uint8] | None:
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    return None if picture is None else np.asarray(picture[..., ::-1], np.uint8)


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return round(sum(kept) / len(kept), 4) if kept else None


def _part(values: list[bool]) -> float | None:
    return _mean([float(v) for v in values])
