"""What is in a gallery, for comparisons."""

from __future__ import annotations

import numpy as np

from robollm.gallery.reader import GalleryReader

SAME = 1e-3  # float16 steps near 1 are half of it; what a batch changes is far below


def contents(folder):
    """Source -> (product, sha256, vector) of a gallery."""
    reader = GalleryReader(folder)
    rows = reader.load()
    found = {
        r.source: (p, r.sha256, rows.vectors[r.slot].copy())
        for p in rows.ids
        for r in reader.references(p)
    }
    reader.close()
    assert len(found) == len(rows.references)
    return found


def assert_alike(one, other):
    assert {s: row[:2] for s, row in one.items()} == {s: row[:2] for s, row in other.items()}
    for source, (_, _, vector) in one.items():
        np.testing.assert_allclose(vector, other[source][2], atol=SAME)
