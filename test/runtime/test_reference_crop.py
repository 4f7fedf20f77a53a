"""A bundle that wants references cut gets them cut wherever one is embedded."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from robollm.core.content import content_box
from robollm.core.errors import ModelFileError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.eval.predictors import BundlePredictor
from robollm.runtime.bundle import load_bundle
from robollm.runtime.embed_files import LocalEmbedding
from robollm.runtime.pixels import Region
from robollm.runtime.references import list_pictures


def wanting(sketch_bundle, folder, way):
    """A copy of the sketch bundle with `input.crop.reference`."""
    shutil.copytree(sketch_bundle, folder)
    card = json.loads((folder / "bundle.json").read_text())
    card["input"]["crop"]["reference"] = way
    (folder / "bundle.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def images(tmp_path):
    """One product with two pictures: a plain backdrop, and none."""
    rng = np.random.default_rng(3)
    (tmp_path / "images" / "p").mkdir(parents=True)
    plain = np.full((120, 160, 3), 235, np.uint8)
    plain[40:80, 90:130] = cv2.resize(rng.integers(0, 200, (5, 5, 3), np.uint8), (40, 40))
    cv2.imwrite(str(tmp_path / "images" / "p" / "1.png"), plain)
    cv2.imwrite(
        str(tmp_path / "images" / "p" / "2.png"), rng.integers(0, 256, (90, 90, 3), np.uint8)
    )
    return tmp_path / "images"


@pytest.mark.parametrize("way", ["content", "whole"])
def test_gallery_and_evaluation_see_what_the_bundle_wants(sketch_bundle, tmp_path, images, way):
    folder = wanting(sketch_bundle, tmp_path / "bundle", way)
    judge = BundlePredictor(RuntimeConfig(bundle=str(folder), threads=1, allow_untrained=True))
    perceiver = judge.perceiver
    listed = list_pictures(images).pictures
    frames = [
        Frame(cv2.imread(str(p.file))[..., ::-1].copy(), "rgb", stamp_ns=i, stream="x")
        for i, p in enumerate(listed, 1)
    ]
    boxes = [content_box(f.pixels) for f in frames]
    assert boxes == [(88, 38, 132, 82), None]
    cut = boxes if way == "content" else [None, None]
    want = perceiver.embed([Region(f, b) for f, b in zip(frames, cut, strict=True)])
    other = perceiver.embed([Region(frames[0], None if way == "content" else boxes[0])])[0]
    assert np.abs(want[0] - other).max() > 0.01, "the crop matters, or this test proves nothing"
    built = np.stack([s.vector for s in LocalEmbedding(perceiver)(listed, {})])
    np.testing.assert_allclose(built, want, atol=1e-5)
    judged = np.stack([judge.reference(Region(f), "p") for f in frames])
    np.testing.assert_allclose(judged, want, atol=1e-5)


def test_the_crop_of_references_is_part_of_what_a_gallery_belongs_to(sketch_bundle, tmp_path):
    bundles = [
        load_bundle(wanting(sketch_bundle, tmp_path / way, way), allow_untrained=True)
        for way in ("whole", "content")
    ]
    assert len({b.embedding_sha256 for b in bundles}) == 2
    plain = load_bundle(sketch_bundle, allow_untrained=True)
    assert plain.reference_crop == "whole", "of a card that doesn't say"


@pytest.mark.parametrize("way", ["middle", None, 1])
def test_another_crop_of_references_is_refused(sketch_bundle, tmp_path, way):
    with pytest.raises(ModelFileError, match=r"input\.crop\.reference is"):
        load_bundle(wanting(sketch_bundle, tmp_path / "b", way), allow_untrained=True)
