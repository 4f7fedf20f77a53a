"""The references of a run: embedded once, read back by product, damage named."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_armbench import picture

from robollm.core.errors import ConfigError, GalleryError
from robollm.data.armbench_identification import write_references
from robollm.data.problems import Problems
from robollm.eval.predictors import BundlePredictor, Chance, Oracle
from robollm.eval.tasks import references


@pytest.fixture
def folder(tmp_path):
    """Products Z, A and M with three, one and two pictures."""
    for p, (name, count) in enumerate((("Z", 3), ("A", 1), ("M", 2))):
        write_references(tmp_path, name, [picture(p, k) for k in range(count)])
    return tmp_path


class Counting(Chance):
    """Counts what it embeds."""

    asked = 0

    def reference(self, region, product):
        self.asked += 1
        return super().reference(region, product)


def built(folder, predictor, wanted=None):
    problems = Problems()
    listed = references.pictures(folder, wanted, problems)
    references.build(folder / "gallery", predictor, listed, problems)
    return problems


def test_vectors_come_back_by_product_in_whatever_order_they_were_added(folder):
    oracle = Oracle()
    for some in ({"Z"}, {"M"}, {"A"}):
        built(folder, oracle, some)
    found = references.read(folder / "gallery", oracle.made_with.embedding_sha256)
    assert found.products == ("A", "M", "Z")
    assert found.starts.tolist() == [0, 1, 3]
    assert found.vectors.shape == (6, oracle.dim)
    owners = np.repeat(["A", "M", "Z"], [1, 2, 3])
    truth = np.stack([oracle.reference(None, name) for name in owners])
    assert np.abs(found.vectors - truth).max() < 1e-3  # float16 on disk


def test_a_second_build_embeds_only_what_has_changed(folder):
    first = Counting()
    built(folder, first)
    assert first.asked == 6
    (folder / references.FOLDER / "Z" / "2.jpg").write_bytes(picture(99))
    again = Counting()
    built(folder, again)
    assert again.asked == 1
    found = references.read(folder / "gallery", None)
    assert len(found.vectors) == 6


def test_pictures_that_cannot_be_read_and_products_without_any_are_named(folder):
    (folder / references.FOLDER / "A" / "1.jpg").write_bytes(b"no picture")
    problems = built(folder, Chance(), {"A", "Z", "Q"})
    assert problems.counts == {"bad_reference": 1, "product_without_reference": 1}
    assert references.read(folder / "gallery", None).products == ("Z",)


def test_a_gallery_of_somebody_else_is_neither_filled_nor_read(folder):
    built(folder, Chance(0))
    with pytest.raises(GalleryError, match="can't be compared"):
        built(folder, Chance(1))
    with pytest.raises(GalleryError, match="made with"):
        references.read(folder / "gallery", Chance(1).made_with.embedding_sha256)


def test_without_reference_images_there_is_a_way_out(tmp_path):
    with pytest.raises(ConfigError, match="there is no") as e:
        references.pictures(tmp_path, None, Problems())
    assert "--gallery" in e.value.fix


def test_the_way_of_a_bundle_gives_its_own_embeddings(folder, perceiver):
    predictor = BundlePredictor(perceiver.config)
    built(folder, predictor, {"A", "M"})
    sha = perceiver.bundle.embedding_sha256
    found = references.read(folder / "gallery", sha)
    assert found.products == ("A", "M")
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-3)
    predictor.close()
