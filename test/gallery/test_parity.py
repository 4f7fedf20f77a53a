"""Any sequence of changes gives the answers of a dictionary and NumPy."""

from __future__ import annotations

import copy
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from robollm.core.errors import GalleryError
from robollm.gallery import derived, scan, tune, whole
from robollm.gallery.base import ExactGallery
from robollm.gallery.compact import compact_gallery
from robollm.gallery.engine import Numbered
from robollm.gallery.graph import build_graph
from robollm.gallery.names import Names
from robollm.gallery.plan import SearchPlan
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.scan import to_bytes
from robollm.gallery.snapshot import StoredGallery
from robollm.gallery.store import create_gallery, open_gallery, open_writer
from robollm.gallery.vectors import unit_rows

DIM = 6
BUNDLE = MadeWith("e" * 64, "a bundle")
IDS = st.sampled_from([f"P{i}" for i in range(9)])
CONTAINERS = st.sampled_from(["tote", "bin", "shelf"])
SEEDS = st.integers(0, 2**31)


class Model:
    """What a gallery should hold, in dictionaries."""

    def __init__(self):
        self.titles: dict[str, str] = {}
        self.rows: dict[str, tuple[str, np.ndarray]] = {}  # source -> product, vector
        self.containers: dict[str, frozenset[str]] = {}

    def oracle(self, score):
        ids = [product for product, _ in self.rows.values()]
        rows = np.array([row for _, row in self.rows.values()], np.float32).reshape(-1, DIM)
        rows = unit_rows(rows, ids, DIM).astype(np.float32)
        return ExactGallery(ids, rows, product_score=score, normalise=False)


def vectors_of(rng, n):
    # A few coarse directions, so that products often share a picture and tie.
    rows = rng.integers(-1, 2, (n, DIM)).astype(np.float32)
    rows[~rows.any(axis=1), 0] = 1
    return rows


class Changes(RuleBasedStateMachine):
    """One gallery, its model as committed and as a writer has it, and old snapshots."""

    score = "max"
    index = None

    @initialize()
    def begin(self):
        self.stack = ExitStack()
        # Small stretches are scanned and shared, as large ones are.
        self.stack.enter_context(mock.patch.object(whole, "_WORTH_A_THREAD", 4))
        self.stack.enter_context(mock.patch.object(scan, "EVERYTHING", 0))
        self.root = Path(tempfile.mkdtemp())
        self.stack.callback(shutil.rmtree, self.root)
        self.folder = self.root / "gallery"
        create_gallery(self.folder, dim=DIM, made_with=BUNDLE)
        self.writer = open_writer(self.folder, made_with=BUNDLE)
        self.committed, self.pending = Model(), Model()
        self.count = 0
        self.current, self.model = self.open(), Model()
        self.old: list[tuple[StoredGallery, Model]] = []

    def teardown(self):
        if hasattr(self, "stack"):
            self.writer.close()
            self.current.close()
            self.stack.close()

    def open(self):
        return open_gallery(
            self.folder,
            embedding_sha256=None,
            bundle="",
            search=SearchPlan(product_score=self.score),
        )

    @rule(product=IDS, seed=SEEDS, n=st.integers(1, 3))
    def add_references(self, product, seed, n):
        rows = vectors_of(np.random.default_rng(seed), n)
        sources = [f"{self.count + i}.jpg" for i in range(n)]
        self.count += n
        self.writer.add_references(product, rows, sources=sources, sha256s=["0" * 64] * n)
        self.pending.titles.setdefault(product, "")
        self.pending.rows |= {s: (product, r) for s, r in zip(sources, rows, strict=True)}

    @rule(product=IDS, title=st.sampled_from(["mug", "soap", ""]))
    def put_product(self, product, title):
        self.writer.put_product(Product(product, title))
        self.pending.titles[product] = title

    @rule(product=IDS)
    def remove_product(self, product):
        if product not in self.pending.titles:
            with pytest.raises(GalleryError, match=product):
                self.writer.remove_product(product)
            return
        self.writer.remove_product(product)
        del self.pending.titles[product]
        self.pending.rows = {s: r for s, r in self.pending.rows.items() if r[0] != product}

    @precondition(lambda self: self.pending.rows)
    @rule(data=st.data())
    def remove_references(self, data):
        sources = data.draw(st.sets(st.sampled_from(sorted(self.pending.rows)), min_size=1))
        assert self.writer.remove_references(sorted(sources)) == len(sources)
        for source in sources:
            del self.pending.rows[source]

    @rule(container=CONTAINERS, products=st.frozensets(IDS))
    def put_container(self, container, products):
        self.writer.put_container(container, products)
        self.pending.containers[container] = products

    @rule(container=CONTAINERS)
    def remove_container(self, container):
        if self.pending.containers.pop(container, None) is None:
            with pytest.raises(GalleryError, match=container):
                self.writer.remove_container(container)
        else:
            self.writer.remove_container(container)

    @rule()
    def commit(self):
        self.writer.commit()
        self.committed = copy.deepcopy(self.pending)

    @rule()
    def roll_back(self):
        self.writer.rollback()
        self.pending = copy.deepcopy(self.committed)

    @rule()
    def reopen_the_writer(self):
        self.writer.close()  # which rolls back
        self.pending = copy.deepcopy(self.committed)
        self.writer = open_writer(self.folder, made_with=BUNDLE)

    @rule()
    def compact(self):
        self.writer.close()
        self.pending = copy.deepcopy(self.committed)
        compact_gallery(self.folder)
        self.writer = open_writer(self.folder, made_with=BUNDLE)

    @rule()
    def make_an_index(self):
        if self.index is None:
            return
        self.writer.rollback()
        self.pending = copy.deepcopy(self.committed)
        reader = GalleryReader(self.folder)
        rows = reader.load()
        reader.close()
        plane, centroids = tune._plane(self.score, rows, Numbered.of(rows, Names()))
        codes = to_bytes(plane.base) if self.index == "codes" else None
        graph = None
        if self.index == "graph" and len(plane.base):
            graph = build_graph(
                plane.base, links=8, ef_construction=64, ef=512, progress=lambda d, t: None
            )
        derived.save(self.folder, self.score, rows, graph=graph, codes=codes, centroids=centroids)
        self.writer.put_record("tuning", "whole" if self.score == "max" else "whole/centroid", {
            "count": self.count, "generation": rows.generation})  # fmt: skip
        self.writer.commit()

    @rule()
    def reopen(self):
        self.current.close()
        self.current = self.open()
        self.follow()

    @rule(keep=st.booleans())
    def refresh(self, keep):
        before, model = self.current, self.model
        self.current = before.refreshed()
        assert (self.current is before) == (self.current.generation == before.generation)
        self.follow()
        if keep:
            self.old.append((before, model))

    @rule(seed=SEEDS)
    def refresh_an_old_snapshot(self, seed):
        if self.old:
            snapshot, _ = self.old[seed % len(self.old)]
            self.agree(snapshot.refreshed(), self.committed)

    @invariant()
    def old_snapshots_answer_as_ever(self):
        for snapshot, model in getattr(self, "old", [])[-2:]:
            self.agree(snapshot, model)

    def follow(self):
        self.model = copy.deepcopy(self.committed)
        self.agree(self.current, self.model)

    def agree(self, gallery, model):
        exact = model.oracle(self.score)
        assert gallery.products == exact.products
        assert set(gallery.products) == exact.products
        assert dict(gallery.manifests.containers) == model.containers
        rng = np.random.default_rng(len(model.rows))
        queries = rng.normal(size=(2, DIM)).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        some = frozenset({"P0", "P3", "P4", "P8"})
        for allow, exclude in ((None, None), (some, None), (None, some), (some, {"P3"})):
            # All products: equal similarities have to come in the order of the ids, too.
            want = exact.search_many(queries, 20, allow, exclude=exclude)
            got = gallery.search_many(queries, 20, allow, exclude=exclude)
            for query, a, b in zip(queries, got, want, strict=True):
                self.same(a, b)
                self.same(gallery.search(query, 20, allow, exclude=exclude), b)
                self.same(gallery.search(query, 1, allow, exclude=exclude), b[:1])
            views = gallery.search_views(queries, 20, allow, exclude=exclude)
            self.same(views, exact.search_views(queries, 20, allow, exclude=exclude))

    def same(self, got, want):
        tolerance = 2e-6 if self.score == "max" else 1e-3
        assert [m.similarity for m in got] == pytest.approx(
            [m.similarity for m in want], abs=tolerance
        )
        if self.score == "max":
            assert [m.product_id for m in got] == [m.product_id for m in want]


@pytest.mark.parametrize("index", [None, "codes", "graph"])
@pytest.mark.parametrize("score", ["max", "centroid"])
def test_any_changes_give_the_answers_of_a_dictionary_and_numpy(score, index):
    machine = type("Machine", (Changes,), {"score": score, "index": index})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=8, stateful_step_count=25, deadline=None)
    )
