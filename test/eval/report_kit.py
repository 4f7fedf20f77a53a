"""A small run made by hand: drawn pictures, records of every kind, invented figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from robollm.data.jpeg import encode
from robollm.eval.figures import Curve, Embeddings, Histogram, Metrics, Section, Table, Worst
from robollm.eval.records import DefectRecord, IdentificationRecord, PickRecord, SegmentationRecord
from robollm.eval.run_folder import RunFolder
from robollm.metrics.bootstrap import Interval

MIX, ZOOMED = "mix-object-tote", "zoomed-out-tote-transfer-set"
TOTE_HW, VIEW_HW = (180, 240), (120, 120)
EVIL = "<script>alert('x')</script>|*_"
"""A product's name that must not become part of the page."""
CARD: dict[str, Any] = {
    "source": "folder",
    "data": {
        "root": "", "name": "drawn", "kind": "simulated", "split": "test",
        "subsets": [MIX, ZOOMED], "samples": {"identification": 4, "defects": 5},
        "digest": "0123456789abcdef0123",
    },
    "predictor": {
        "name": "bundle", "bundle": "bundles/tiny", "bundle_name": "tiny",
        "version": "0.1.0", "sha256": "ab12" * 16,
        "trained": False, "precision": "fp32", "provider": "cpu",
    },
    "settings": {},
}  # fmt: skip


def interval(value: float, spread: float = 0.05, cases: int = 12) -> Interval:
    return Interval(value, max(0.0, value - spread), min(1.0, value + spread), cases)


def _instance(box: Sequence[int], category: str, score: float | None = None) -> dict[str, Any]:
    x, y, w, h = box
    bits = np.zeros(TOTE_HW, np.uint8)
    cv2.ellipse(bits, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)
    code = rle.encode(np.asfortranarray(bits))
    code["counts"] = code["counts"].decode()
    one = {"category": category, "bbox": [x, y, w, h], "segmentation": code}
    return {**one, "iscrowd": 0} if score is None else {**one, "score": score}


def _draw(path: Path, hw: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((*hw, 3), 90 + seed % 60, np.uint8)
    for _ in range(6):
        x, y = int(rng.integers(0, hw[1] - 50)), int(rng.integers(0, hw[0] - 40))
        colour = [int(c) for c in rng.integers(40, 230, 3)]
        cv2.rectangle(image, (x, y), (x + 45, y + 32), colour, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image))


def _totes(root: Path, run: RunFolder, subset: str, count: int) -> None:
    with run.journal(f"segmentation/{subset}") as journal:
        for i in range(count):
            file = f"armbench-segmentation-0.1/{subset}/images/{i}.jpg"
            _draw(root / file, TOTE_HW, i)
            truth = [_instance((10 + 50 * k, 20 + 9 * k, 44, 60), "object") for k in range(4)]
            found = [_instance((10 + 50 * k, 22 + 9 * k, 44, 60), "object", 0.9) for k in range(3)]
            found.append(_instance((90, 120, 60, 40), "object", 0.6))
            found.append(_instance((150, 130, 60, 40), "object", 0.01))
            journal.append(
                SegmentationRecord(key=str(i), file=file, hw=TOTE_HW, truth=truth, found=found,
                                   ms={"read": 3.0 + i, "segment": 40.0})
            )  # fmt: skip


def _picks(root: Path, run: RunFolder) -> None:
    folder = "armbench-object-id-0.1"
    for i, product in enumerate(("B0RIGHT", "B0WRONG")):
        _draw(root / folder / "Reference_Images" / product / "1.jpg", VIEW_HW, 40 + i)
    (root / folder / "train-test-split.pickle").write_bytes(b"")
    with run.journal("identification") as journal:
        for i in range(4):
            files = {view: f"{folder}/Picks/p{i}/{view}.jpg" for view in ("PickRGB", "ToteWallRGB")}
            for k, file in enumerate(files.values()):
                _draw(root / file, VIEW_HW, 10 * i + k)
            truth = EVIL if i == 3 else "B0RIGHT"
            journal.append(
                IdentificationRecord(key=f"p{i}", truth=truth, files=files,
                                     manifest=["B0RIGHT", "B0WRONG"])
            )  # fmt: skip


def _defects(root: Path, run: RunFolder) -> None:
    said = ((0.1, 0.7, 0.2), (0.1, 0.3, 0.6), (0.8, 0.1, 0.1), (0.2, 0.5, 0.3))
    labels = ("package_defect", "nominal", "package_defect", "nominal")
    with run.journal("defects") as journal:
        for i, (label, p) in enumerate(zip(labels, said, strict=True)):
            file = f"armbench-defects-image-0.1/data/{i:021}/{i:021}_0.jpg"
            _draw(root / file, VIEW_HW, 70 + i)
            names = ("multi_pick", "nominal", "package_defect")
            journal.append(
                DefectRecord(key=f"{i:021}/0", induct=f"{i:021}", frame=0, time_s=None, file=file,
                             label=label, box=(10.0, 8.0, 90.0, 100.0),
                             probabilities=dict(zip(names, p, strict=True)))
            )  # fmt: skip
        gone = "armbench-defects-image-0.1/data/gone/gone_0.jpg"
        error = {"kind": "missing_image", "what": f"{gone} can't be read"}
        journal.append(
            DefectRecord(key="gone/0", induct="gone", frame=0, time_s=None, file=gone,
                         label="multi_pick", error=error)
        )  # fmt: skip


def _station(run: RunFolder) -> None:
    with run.journal("picks") as journal:
        journal.append(
            PickRecord(
                key="p0", bag="",
                truth={"product_id": "B0RIGHT", "in_manifest": True, "container": "p0",
                       "label": "nominal", "views": {"on_arm_low": "nominal"}},
                identification={"decision": "identified", "ranked": [["B0WRONG", 0.8]],
                                "views": ["image"], "reason": ""},
                verdict={"decision": "package_defect", "ranked": [["package_defect", 0.7]],
                         "inspected": ["on_arm_low"], "missing": []},
            )
        )  # fmt: skip


def make_run(folder: Path) -> RunFolder:
    """A run with streams of every kind and its data, `folder/data` and `folder/run`."""
    data = folder / "data"
    card = {**CARD, "data": {**CARD["data"], "root": str(data)}}
    with RunFolder.create_or_resume(folder / "run", card) as run:
        _totes(data, run, MIX, 4)
        _totes(data, run, ZOOMED, 3)
        _picks(data, run)
        _defects(data, run)
        _station(run)
    return RunFolder.open(folder / "run")


def _segmentation_section(subset: str, count: int) -> Section:
    figures = {}
    for p, protocol in enumerate(("two_class", "class_agnostic", "object_only")):
        for kind in ("mask", "box"):
            for i, level in enumerate(("mAP", "mAP50", "mAP75")):
                figures[f"{protocol}_{kind}_{level}"] = interval(0.3 + 0.1 * p + 0.03 * i)
    for i, group in enumerate(("1-5", "6-12", "13-25", "26+")):
        figures[f"object_only_mask_mAP50_{group}"] = interval(0.8 - 0.1 * i)
    figures["object_only_mask_mAP50_26+"] = Interval(math.nan, math.nan, math.nan, 0)
    recall = tuple(np.linspace(0, 1, 101).tolist())
    curves = {
        p: Curve("pr", recall, tuple(1 - 0.6 * r * r for r in recall), "recall", "precision", p)
        for p in ("two class, mask, IoU .50", "object only, mask, IoU .50")
    }
    curves["reliability"] = Curve(
        "reliability", (0.1, 0.5, 0.9), (0.2, 0.4, 0.95), "score said", "share that was right",
        "instances",
    )  # fmt: skip
    facts: Mapping[str, str | float] = {"outcome": "missed and false", "threshold": 0.3}
    why = "Of 4 objects 1 missed; of 4 finds 1 false, at scores from 0.30 (IoU .5)."
    return Section(
        "segmentation", subset, "test", "COCO average precision; zero-shot transfer.", count,
        count, "image", figures, curves,
        tables={"sizes": Table(("size, px", "images"), (("240x180", count),), "Sizes.")},
        histograms={"latency: segment": Histogram((0.0, 20.0, 40.0, 60.0), (0, 1, count), "ms")},
        counts={"instances": 4 * count},
        worst=tuple(Worst(str(i), 1 - 0.1 * i, why, facts) for i in range(count)),
    )  # fmt: skip


def _identification_section() -> Section:
    figures = {}
    for gallery, base in (("container", 0.9), ("all", 0.6)):
        for protocol in ("product", "image"):
            for query in ("n1", "n3", "n3max"):
                for k in (1, 2, 3):
                    name = f"recall@{k}_{gallery}_{protocol}_{query}"
                    figures[name] = interval(base + 0.02 * k - 0.01 * (protocol == "image"))
    for k in (1, 2, 3):
        figures[f"chance@{k}_container"] = interval(0.5)
    for size in ("2-9", "10-19", "20-49", "50+"):
        figures[f"recall@1_container_product_n1_manifest-{size}"] = interval(0.7)
    places = np.random.default_rng(0).uniform(-1, 1, (60, 2)).tolist()
    kinds = (None, True, False)
    points = tuple((x, y, f"P{i % 9}", kinds[i % 3]) for i, (x, y) in enumerate(places))
    worst = [
        Worst("p0", 0.4, "B0WRONG was nearer than B0RIGHT by 0.40 in cosine.",
              {"outcome": "wrong product", "answer": "B0WRONG"}),
        Worst("p3", 0.3, f"{EVIL} has no reference.",
              {"outcome": "no reference", "answer": "B0RIGHT"}),
    ]  # fmt: skip
    curve = Curve(
        "open-set", tuple(np.linspace(0, 1, 900).tolist()), tuple(np.linspace(1, 0, 900).tolist()),
        "false accept", "false reject", "N=1",
    )  # fmt: skip
    return Section(
        "identification", "", "test", "Cosine, product ranks.", 4, 2, "product", figures,
        {"open": curve}, worst=tuple(worst), embeddings=Embeddings(points, "PCA"),
        counts={"no_reference": 1},
    )  # fmt: skip


def _defects_section() -> Section:
    figures = {}
    for per in ("image", "induct"):
        for i, defect in enumerate(("multi_pick", "package_defect", "combined")):
            figures[f"{per}_{defect}_precision"] = interval(0.81 + 0.03 * i)
            figures[f"{per}_{defect}_recall"] = interval(0.7 + 0.03 * i)
            figures[f"{per}_{defect}_fpr"] = interval(0.06)
    labels = ("multi_pick", "nominal", "package_defect")
    confusion = Table(("truth", *labels), (("nominal", 0, 1, 1), ("package_defect", 1, 1, 0)))
    worst = [
        Worst("gone/0", 1.0, "No answer (missing_image): it can't be read.",
              {"outcome": "no answer"}),
        Worst(f"{0:021}/0", 0.7, "A package_defect was called nominal with 0.70.",
              {"outcome": "missed defect", "answer": "nominal"}),
        Worst(f"{1:021}/0", 0.6, "A nominal was called package_defect with 0.60.",
              {"outcome": "false alarm", "answer": "package_defect"}),
    ]  # fmt: skip
    return Section(
        "defects", "", "test", "Argmax over three classes.", 5, 5, "induct", figures,
        tables={"confusion": confusion}, worst=tuple(worst),
    )  # fmt: skip


def _station_section() -> Section:
    facts = {"outcome": "false alarm"}
    return Section(
        "station", "picks", "", "As published.", 1, 1, "pick",
        {"recall@1_published": interval(0.0)},
        worst=(Worst("p0", 1.0, "A nominal pick was called package_defect.", facts),),
    )  # fmt: skip


def make_metrics() -> Metrics:
    """Sections of the run's streams, and one baseline of identification."""
    colour = Section(
        "identification", "", "test", "", 4, 2, "product",
        {"recall@1_container_product_n1": interval(0.77)},
    )  # fmt: skip
    return Metrics(
        True,
        ("1 of 5 samples of defects has no answer and counts as wrong: 1 missing_image",),
        {"draws": 1000, "level": 0.95, "seed": 0},
        (
            _segmentation_section(MIX, 4),
            _segmentation_section(ZOOMED, 3),
            _identification_section(),
            _defects_section(),
            _station_section(),
        ),
        {"colour-histogram": (colour,)},
    )
