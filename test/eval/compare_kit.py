"""Run folders made by hand, and a tally of nothing but shares."""

from __future__ import annotations

import numpy as np

from robollm.eval.records import (
    DefectRecord,
    IdentificationRecord,
    PickRecord,
    SegmentationRecord,
    pack_vector,
)
from robollm.eval.run_folder import RunFolder
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_writer

CARD = {
    "source": "folder",
    "data": {"root": "data", "name": "hand-made", "split": "test"},
    "predictor": {"name": "bundle", "classes": "object"},
    "settings": {},
}
SHA = "ab" * 32


def write_run(path, streams):
    """Stream -> records, as a run that has ended well."""
    with RunFolder.create_or_resume(path, CARD) as run:
        for stream, records in streams.items():
            with run.journal(stream) as journal:
                for record in records:
                    journal.append(record)
            run.note_stream(stream, len(records))
    return path


def defect(number, label, said, sure=0.9, error=None):
    """An induct of one image that was called `said`."""
    rest = (1 - sure) / 2
    odds = dict.fromkeys(("multi_pick", "nominal", "package_defect"), rest) | {said: sure}
    key = f"{number:021d}"
    return DefectRecord(
        key=f"{key}/0", induct=key, frame=0, time_s=None, file=f"data/{key}/{key}_0.jpg",
        label=label, probabilities={} if error else odds, error=error,
    )  # fmt: skip


def defects(wrong=(), count=300):
    """Every third a multi_pick, every third a package_defect; `wrong` are called otherwise."""
    labels = ("multi_pick", "nominal", "package_defect")
    return [
        defect(n, labels[n % 3], labels[(n + 1) % 3] if n in wrong else labels[n % 3])
        for n in range(count)
    ]


def square(x, y, side=8):
    """A square as column-wise run lengths, and its box; the picture has 32 x 32 px."""
    from pycocotools import mask

    pixels = np.zeros((32, 32), np.uint8, order="F")
    pixels[y : y + side, x : x + side] = 1
    rle = mask.encode(pixels)
    return {
        "category": "object",
        "bbox": [float(x), float(y), float(side), float(side)],
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def image(number, found):
    """A picture of two objects, of which the first `found` are found."""
    truth = [square(1, 1), square(20, 20)]
    return SegmentationRecord(
        key=str(number),
        file=f"images/{number}.jpg",
        hw=(32, 32),
        truth=[{**t, "iscrowd": 0} for t in truth],
        found=[{**t, "score": 0.9} for t in truth[:found]],
    )


def unit(*values):
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def write_gallery(folder, products):
    """Product -> its one reference vector."""
    made_with = MadeWith(SHA, "by hand")
    create_gallery(folder, dim=len(next(iter(products.values()))), made_with=made_with)
    with open_writer(folder, made_with=made_with) as writer:
        for name, vector in products.items():
            writer.add_references(
                name,
                vector[None],
                sources=[f"{name}/1.jpg"],
                sha256s=[name.encode().hex().zfill(64)],
            )
        writer.commit()


def query(key, truth, vector, manifest):
    return IdentificationRecord(
        key=key,
        truth=truth,
        manifest=list(manifest),
        files={"PickRGB": f"Picks/{key}/PickRGB.jpg"},
        vectors={n: pack_vector(vector) for n in ("n1", "n3", "PickRGB")},
    )


def pick(key, decision, ranked, verdict, *, known=True, label="nominal", error=None):
    """A pick of product P1 whose picked view is `label`."""
    named = {"decision": decision, "ranked": ranked, "views": ["image"], "reason": ""}
    judged = {"decision": verdict, "ranked": [[verdict, 0.8]], "inspected": ["a"], "missing": []}
    return PickRecord(
        key=key, bag="bag", error=error,
        truth={"product_id": "P1", "in_manifest": known, "container": "t", "label": label,
               "views": {}, "view_frames": 1},
        identification=None if error else named, verdict=None if error else judged,
    )  # fmt: skip


class Shares:
    """Figures that are shares of units: (U, F) hits."""

    def __init__(self, hits, names):
        self._hits, self._names = np.asarray(hits, np.float64), names
        self.units = tuple(map(str, range(len(self._hits))))

    def figures(self, counts=None):
        each = np.ones(len(self.units)) if counts is None else counts
        return dict(zip(self._names, (each @ self._hits / each.sum()).tolist(), strict=True))

    def share(self, name):
        column = self._hits[:, self._names.index(name)]
        return column, np.ones(len(column))
