"""A run of an evaluation, written by hand: what is right mostly scores higher."""

from __future__ import annotations

import numpy as np

from robollm.eval.records import (
    DefectRecord,
    IdentificationRecord,
    SegmentationRecord,
    pack_vector,
)
from robollm.eval.run_folder import RunFolder
from robollm.eval.thresholds.parts import Wish
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_writer
from robollm.runtime.bundle import load_bundle

KINDS = ("multi_pick", "nominal", "package_defect")
QUICK = Wish(draws=100)
HW = (20, 30)


def _instance(x: int, score: float | None = None) -> dict[str, object]:
    from pycocotools import mask as rle

    bits = np.zeros(HW, np.uint8)
    bits[4:12, x : x + 6] = 1
    code = rle.encode(np.asfortranarray(bits))
    one = {
        "category": "object",
        "bbox": [x, 4, 6, 8],
        "segmentation": {"size": list(HW), "counts": code["counts"].decode()},
    }
    return {**one, "iscrowd": 0} if score is None else {**one, "score": score}


def make_run(folder, bundle, *, split="val", sha256="", inducts=66, picks=60, sharp=2.5):
    """Records that tell a good model: what is right scores higher than what isn't, mostly."""
    rng = np.random.default_rng(17)
    known = load_bundle(bundle, allow_untrained=True)
    card = {
        "source": "folder",
        "data": {"root": str(folder), "name": "drawn", "split": split, "samples": {},
                 "digest": "d1"},
        "predictor": {"name": "bundle", "bundle_name": known.name,
                      "sha256": sha256 or known.sha256, "precision": "fp32", "classes": "object"},
        "settings": {},
        "gallery": "",
        "embedding_sha256": known.embedding_sha256,
    }  # fmt: skip
    dim = known.embedding_dim
    directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
    products = [f"B{i:02}" for i in range(12)]
    with RunFolder.create_or_resume(folder, card) as run:
        with run.journal("segmentation/mix-object-tote") as journal:
            for i in range(30):
                found = [_instance(2, float(rng.uniform(0.4, 0.9))),
                         _instance(22, float(rng.uniform(0.1, 0.5)))]  # fmt: skip
                journal.append(
                    SegmentationRecord(key=str(i), file=f"{i}.jpg", hw=HW, found=found,
                                       truth=[_instance(2), _instance(12)])
                )  # fmt: skip
        with run.journal("identification") as journal:
            for i in range(picks):
                truth = i % 12
                vector = directions[truth] + 0.2 * rng.normal(size=dim).astype(np.float32)
                vector = pack_vector(vector / np.linalg.norm(vector))
                journal.append(
                    IdentificationRecord(key=f"p{i}", truth=products[truth], manifest=products,
                                         files={}, vectors={"n1": vector})
                )  # fmt: skip
        with run.journal("defects") as journal:
            for i in range(inducts):
                for k in range(2):
                    logits = rng.normal(0, 0.7, 3)
                    logits[i % 3] += sharp
                    p = np.exp(logits) / np.exp(logits).sum()
                    journal.append(
                        DefectRecord(key=f"{i}/{k}", induct=str(i), frame=k, time_s=None,
                                     file=f"{i}.jpg", label=KINDS[i % 3],
                                     probabilities=dict(zip(KINDS, p.tolist(), strict=True)))
                    )  # fmt: skip
    made = MadeWith(known.embedding_sha256, known.title)
    create_gallery(folder / "gallery", dim=dim, made_with=made)
    with open_writer(folder / "gallery", made_with=made) as writer:
        for name, vector in zip(products, directions, strict=False):
            writer.add_references(name, vector[None], sources=[name], sha256s=["0" * 64])
        writer.commit()
    return RunFolder.open(folder)
