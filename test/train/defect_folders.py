"""Tiny ARMBench defect folders for tests: drawn pictures, a few kB."""

from __future__ import annotations

import json

import numpy as np

from robollm.data import armbench_defects as files
from robollm.data import jpeg

MULTI, NOMINAL, DAMAGED = 0, 1, 2
GREEN, BLUE = (20, 200, 30), (20, 30, 200)


def picture(inner=GREEN, hw=(40, 60), box=(10, 5, 50, 35)):
    """A blue picture with a box of one colour, as JPEG."""
    rgb = np.full((*hw, 3), BLUE, np.uint8)
    x1, y1, x2, y2 = box
    rgb[y1:y2, x1:x2] = inner
    return jpeg.encode(rgb, quality=98)


def write(folder, inducts, *, val=(), test=("9" * 21,), box=(10, 5, 50, 35), **more):
    """Write inducts -> labels of their images; `more` goes into every annotation."""
    root = folder / files.IMAGE_ROOT
    note = {"box": list(box), "polygons": [[10, 5, 49, 5, 49, 34, 10, 34]], **more}
    for induct, labels in inducts.items():
        rows = [(picture(), {"label": files.LABELS[label], **note}) for label in labels]
        files.write_images(root, induct, rows)
    train = [one for one in inducts if one not in (*val, *test)]
    files.write_lists(root, {"train": train, "val": list(val), "test": list(test)})
    if not val:
        (root / "val.csv").unlink()
    return root


def many(count=30):
    """Inducts of 1 to 3 images; two of three are nominal."""
    return {
        f"{n:021d}": [(MULTI, NOMINAL, NOMINAL, DAMAGED, NOMINAL, NOMINAL)[n % 6]] * (1 + n % 3)
        for n in range(count)
    }


def annotation(root, induct, k, change):
    file = root / "data" / induct / f"{induct}_{k}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    return file
