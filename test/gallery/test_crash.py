"""A process that writes is killed, again and again: nothing that it committed is lost.

The killing is bench/gallery_crash.py, which publishes hundreds of them; here there are 40.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from robollm.gallery.store import create_gallery, open_gallery, open_writer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location(
        "bench_gallery_crash", ROOT / "bench" / "gallery_crash.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def folder(bench, tmp_path):
    create_gallery(tmp_path / "gallery", dim=bench.DIM, made_with=bench.MADE_WITH)
    return tmp_path / "gallery"


@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_killed_writers_lose_nothing_that_they_committed(bench, folder, seed):
    found = bench.crash(folder, 20, seed)
    assert found.losses == []
    assert (found.kills, found.recoveries) == (20, 20)
    assert found.acknowledged > 20
    gallery = open_gallery(folder, embedding_sha256=None, bundle="")
    want, _ = bench.look(folder)
    assert gallery.card.references == len(want.references)
    product = min(gallery.products)
    sha = gallery.reference_of(product)[0].sha256
    best = gallery.search(np.float32(bench.vectors([sha])[0]), 1)[0]
    assert best.similarity == pytest.approx(1, abs=1e-3)
    gallery.close()


def test_the_look_at_a_gallery_would_notice_a_loss(bench, folder):
    model = bench.Model()
    changes = [
        {"add": [("P1", 5, 3)], "titles": {"P1": "one"}, "containers": {}, "record": 1},
        {"remove": ["P1/6.jpg"], "titles": {}, "containers": {"C1": ["P1"]}, "record": 2},
    ]
    with open_writer(folder, made_with=bench.MADE_WITH) as writer:
        for change in changes:
            bench.apply(writer, change)
            writer.commit()
            before, model = model, model.after(change)
    assert bench.look(folder) == (model, [])
    assert model != before
    with open_writer(folder, made_with=bench.MADE_WITH) as writer:  # a vector of another picture
        sources = ["P1/9.jpg"]
        writer.add_references(
            "P1", bench.vectors(["0" * 64]), sources=sources, sha256s=[f"{9:064x}"]
        )
        writer.commit()
    assert bench.look(folder)[1] == ["vectors are other ones than were added"]
