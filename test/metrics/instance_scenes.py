"""Drawn images with instances and finds, and what COCO's own code says of them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from robollm.metrics.instances import ImageResult, Protocol, Truth

HW = (40, 50)
TWO = {"all": Protocol({"a": 0, "b": 1}, {0: 0, 1: 1})}


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def rectangle(x, y, w, h):
    mask = np.zeros(HW, bool)
    mask[y : y + h, x : x + w] = True
    return mask


def truth(category, box, mask=None, **how):
    return Truth(category, box, rle(rectangle(*box) if mask is None else mask), **how)


def image(key, truths, finds=()):
    """Finds are (box, score) or (box, score, label)."""
    finds = [(*f, 0)[:3] for f in finds]
    return ImageResult(
        key,
        truths,
        np.array([f[0] for f in finds], float).reshape(-1, 4),
        np.array([f[1] for f in finds], float),
        np.array([f[2] for f in finds], int),
        [rle(rectangle(*f[0])) for f in finds],
    )


def scene(rng, key, *, ties):
    """A few instances, some crowds, some ignored, some images empty; finds near and far."""

    def box():
        x, y = rng.integers(0, 35), rng.integers(0, 28)
        return np.array([x, y, rng.integers(5, 16), rng.integers(5, 13)])

    def ragged(at):
        mask = rectangle(*at)
        mask[rng.random(HW) < 0.03] = False
        return mask

    truths = []
    for _ in range(rng.choice([0, 1, 2, 4, 7])):
        at, kind = box(), rng.random()
        how = {"crowd": kind < 0.12, "ignore": 0.12 <= kind < 0.2}
        truths.append(truth("ab"[rng.integers(2)], at, ragged(at), **how))
    finds = []
    for _ in range(rng.choice([0, 1, 3, 6, 14])):
        label, at = rng.integers(2), box()
        if truths and rng.random() < 0.8:
            near = truths[rng.integers(len(truths))]
            label = "ab".index(near.category) if rng.random() < 0.9 else label
            at = np.maximum(near.box + rng.integers(-1, 2, 4) * rng.integers(2), [0, 0, 1, 1])
        score = rng.integers(1, 5) / 4 if ties else rng.random()
        finds.append((at, score, label))
    result = image(key, truths, finds)
    masks = [rle(ragged(f[0])) for f in finds]
    return ImageResult(key, truths, result.boxes, result.scores, result.labels, masks)


def by_coco(results, kind, most):
    """Precision (IoU, recall, class) of `TWO`; -1: nothing to find."""
    rows, said = [], []
    for i, one in enumerate(results):
        for t in one.truth:
            # COCO leaves out what it thinks too large: its own way to ignore.
            area = 1e12 if t.ignore else float(coco_mask.area(t.mask))
            rows.append({"image_id": i, "category_id": "ab".index(t.category),
                         "segmentation": t.mask, "bbox": list(t.box), "iscrowd": int(t.crowd),
                         "area": area})  # fmt: skip
        for box, score, label, mask in zip(
            one.boxes, one.scores, one.labels, one.masks, strict=True
        ):
            said.append({"image_id": i, "category_id": int(label), "score": float(score),
                         "segmentation": mask, "bbox": list(box), "iscrowd": 0,
                         "area": float(coco_mask.area(mask))})  # fmt: skip
    files = []
    for some in (rows, said):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "height": HW[0], "width": HW[1]} for i in range(len(results))],
            "annotations": [{**a, "id": n} for n, a in enumerate(some, start=1)],
            "categories": [{"id": 0}, {"id": 1}],
        }
        files.append(coco)
    with contextlib.redirect_stdout(io.StringIO()):
        for coco in files:
            coco.createIndex()
        run = COCOeval(*files, {"mask": "segm", "box": "bbox"}[kind])
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.params.maxDets = [most]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., 0, 0]
