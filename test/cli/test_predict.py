"""`robollm predict` with a real bundle of random weights on drawn pictures."""

from __future__ import annotations

import json
import shutil
import signal

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from robollm.core.frame import Frame
from robollm.core.settings import IdentificationConfig, PickConfig
from robollm.gallery.catalogue import load_catalogue
from robollm.runtime.perceiver import PickView
from robollm.runtime.pixels import Region
from robollm.runtime.predict_job import Job

SCORE_MIN = 0.3
TOP = {
    "format", "format_version", "kind", "untrained", "bundle", "gallery", "settings", "conditions",
    "pictures", "failed", "left_out",
}  # fmt: skip


# pycocotools returns an array type that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def totes(tmp_path_factory):
    """Two drawn totes, t1.png and t2.jpg."""
    from robollm.export.pictures import tote

    folder, rng = tmp_path_factory.mktemp("totes"), np.random.default_rng(5)
    for name in ("t1.png", "t2.jpg"):
        rgb = (tote(rng, (360, 480)) * 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / name), rgb[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def bundle(shelf, sketch_bundle, tmp_path_factory):
    """The sketch bundle with a gallery of its own, as a shipped bundle has one; read only."""
    folder = tmp_path_factory.mktemp("shipped") / "bundle"
    shutil.copytree(sketch_bundle, folder)
    shutil.copytree(shelf.gallery, folder / "gallery")
    return folder


@pytest.fixture
def predict(robollm, bundle):
    """Call `robollm predict`; what a shell sees."""

    def call(*words, folder=bundle, untrained=True):
        more = ("--allow-untrained",) if untrained else ()
        return robollm("predict", *words, "--bundle", folder, "--threads", "1",
                       "--score-min", SCORE_MIN, *more)  # fmt: skip

    return call


def answers(done, code=0):
    assert done.code == code, done.err
    return json.loads(done.out)


def pixels_of(file):
    return Frame(cv2.imread(str(file))[..., ::-1], "rgb", stamp_ns=1)


def test_instances_and_products_are_those_of_the_perceiver(predict, perceiver, totes, shelf):
    card = answers(predict(totes / "t1.png", "--json", "--manifest", shelf.manifest,
                           "--container", "tote-A"))  # fmt: skip
    frame = pixels_of(totes / "t1.png")
    want = perceiver.segment(frame, score_min=SCORE_MIN)
    b = perceiver.bundle
    catalogue = load_catalogue(str(shelf.manifest), str(shelf.gallery),
                               embedding_sha256=b.embedding_sha256, bundle=b.title)  # fmt: skip
    policy, thresholds = perceiver.policy(IdentificationConfig(), catalogue.gallery)
    boxes = [tuple(map(float, box)) for box in want.boxes]
    named = perceiver.identify_instances(frame, boxes, catalogue=catalogue, container="tote-A",
                                         policy=policy)  # fmt: skip
    (picture,) = card["pictures"]
    got = picture["instances"]
    assert len(got) == len(want) >= 2, "the sketch sees something, or this test proves nothing"
    assert card["gallery"]["thresholds"] == thresholds
    assert (card["gallery"]["container"], card["gallery"]["compared_with"]) == ("tote-A", 5)
    for i, one in enumerate(got):
        assert one["id"] == i + 1
        assert one["score"] == pytest.approx(float(want.scores[i]), abs=1e-5)
        x, y, w, h = one["box"]
        assert (x, y, x + w, y + h) == pytest.approx(boxes[i], abs=0.02)
        rle = coco_mask.frPyObjects(one["segmentation"], *one["segmentation"]["size"])
        mask = want.masks[i].full(want.hw)
        np.testing.assert_array_equal(coco_mask.decode(rle).astype(bool), mask)
        assert one["area"] == mask.sum()
        product, answer = one["product"], named[i]
        assert (product["decision"], product["reason"]) == (answer.decision, answer.reason)
        assert product["probability"] == pytest.approx(answer.ranked[0][1], abs=1e-4)
        ids = [c for c, _ in answer.ranked if c.startswith("P")]
        assert [c["product"] for c in product["candidates"]] == ids
        assert [c["title"] for c in product["candidates"]] == [f"Product {c}" for c in ids]


def test_product_and_verdict_of_a_view_are_those_of_the_perceiver(predict, perceiver, shelf):
    file = shelf.references / "P3" / "1.jpg"
    words = ("--kind", "view", "--json", "--accept", "-1", "--margin", "0", "--box", "10,5,120,90",
             "--manifest", shelf.manifest, "--container", "tote-A")  # fmt: skip
    card = answers(predict(file, *words))
    region = Region(pixels_of(file), (10.0, 5.0, 130.0, 95.0))
    limits = perceiver.bundle.thresholds.defects
    verdict, (evidence,) = perceiver.inspect_pick(
        [PickView("view", region)], thresholds=limits, quality=PickConfig()
    )
    (one,) = card["pictures"]
    assert (one["view"], one["box"], one["size"]) == ("view", [10, 5, 120, 90], [140, 110])
    assert one["verdict"]["decision"] == verdict.decision
    assert one["verdict"]["probabilities"] == pytest.approx(evidence.probabilities, abs=1e-5)
    assert sum(one["verdict"]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert [r["class_id"] for r in one["verdict"]["ranked"]] == [c for c, _ in verdict.ranked]
    assert card["settings"]["defect_thresholds"] == limits
    assert one["product"]["decision"] == "identified"
    query = perceiver.embed([region])[0]
    whole = perceiver.embed([Region(pixels_of(file))])[0]
    assert query @ whole > 0.5, "the box shows most of the reference"
    assert one["product"]["title"] == f"Product {one['product']['product']}"
    best = one["product"]["candidates"][0]
    assert (best["product"], best["probability"]) == (
        one["product"]["product"], one["product"]["probability"])  # fmt: skip


def test_the_card_says_what_it_stands_on(predict, totes, bundle, perceiver):
    card = answers(predict(totes, "--json"))
    assert set(card) == TOP
    assert (card["format"], card["format_version"]) == ("robollm-predictions", 1)
    assert card["untrained"] is True
    assert card["bundle"]["sha256"] == perceiver.bundle.sha256
    assert card["gallery"]["folder"] == str(bundle / "gallery")
    assert card["gallery"]["container"] is None
    assert card["gallery"]["compared_with"] == 8
    assert "among all products" in card["gallery"]["thresholds"]
    assert card["conditions"]["precision"] == "fp32"
    assert card["conditions"]["threads"] == 1
    assert {"cpu", "cores", "others_cores"} <= set(card["conditions"]["machine"])
    assert [p["number"] for p in card["pictures"]] == [1, 2]
    assert [p["file"] for p in card["pictures"]] == [str(totes / n) for n in ("t1.png", "t2.jpg")]
    for picture in card["pictures"]:
        stages = dict(picture["ms"])
        assert {"read", "backbone", "search"} <= set(stages)
        assert stages.pop("total") >= 0.9 * sum(stages.values())


def test_tables_are_for_people(predict, totes, shelf):
    done = predict(totes / "t1.png", "--accept", "1")
    assert done.code == 0
    assert "UNTRAINED" in done.err
    for word in ("probability", "score", "unknown", "480x360 px", "ms a picture", "8 products"):
        assert word in done.out, word
    done = predict(totes / "t1.png", "--accept", "-1", "--margin", "2", "--max-instances", "1")
    assert "ambiguous: P" in done.out
    among = ("--manifest", shelf.manifest, "--container", "tote-A", "--accept", "-1",
             "--margin", "0")  # fmt: skip
    done = predict(shelf.references / "P2" / "1.jpg", "--kind", "view", *among)
    for word in ("verdict", "multi_pick", "package_defect", "P2", "Product P2", "1.jpg"):
        assert word in done.out, word


def test_without_a_gallery_nothing_is_named(predict, totes, shelf, sketch_bundle):
    card = answers(predict(totes / "t1.png", "--json", folder=sketch_bundle))
    assert card["gallery"] is None
    for one in card["pictures"][0]["instances"]:
        assert one["product"]["decision"] == "no_gallery"
        assert one["product"]["product"] is one["product"]["probability"] is None
        assert one["product"]["candidates"] == []
    for words in ((totes / "t1.png",), (shelf.references / "P2" / "1.jpg", "--kind", "view")):
        assert "no gallery" in predict(*words, folder=sketch_bundle).out


def test_what_can_not_be_judged_is_uninspected_and_unknown(predict, tmp_path):
    assert cv2.imwrite(str(tmp_path / "dark.png"), np.full((90, 90, 3), 3, np.uint8))
    rng = np.random.default_rng(0)
    assert cv2.imwrite(str(tmp_path / "PickRGB.png"), rng.integers(0, 255, (90, 90, 3), np.uint8))
    done = predict(tmp_path, "--kind", "view", "--json")
    before, dark = answers(done)["pictures"]
    assert dark["verdict"]["decision"] == before["verdict"]["decision"] == "uninspected"
    assert dark["verdict"]["probabilities"] is before["verdict"]["probabilities"] is None
    assert "too dark" in dark["verdict"]["reason"]
    assert dark["product"]["decision"] == "unknown"
    assert dark["product"]["product"] is None
    assert before["view"] == "image"
    assert "before the pick" in before["verdict"]["reason"]
    assert before["product"]["candidates"], "its product is looked for all the same"
    table = predict(tmp_path, "--kind", "view").out
    assert "dark.png: uninspected: too dark" in table


def test_pictures_that_can_not_be_used_are_named_and_the_others_go_on(predict, totes, tmp_path):
    (tmp_path / "broken.png").write_bytes((totes / "t1.png").read_bytes()[:999])
    words = (tmp_path / "broken.png", totes / "t1.png", tmp_path / "none*", tmp_path / "gone.jpg")
    done = predict(*words, "--json", "--out", tmp_path / "out")
    card = answers(done, code=1)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == card
    by_file = {p["file"]: p for p in card["pictures"]}
    assert card["failed"] == 3
    assert by_file[str(totes / "t1.png")]["error"] is None
    assert by_file[str(words[0])]["error"]["kind"] == "truncated_image"
    assert by_file[str(words[2])]["error"]["kind"] == "missing_image"
    assert by_file[str(words[3])]["error"]["kind"] == "missing_image"
    assert done.err.count("error: ") == done.err.count("  fix: ") == 3
    good = by_file[str(totes / "t1.png")]
    assert [p.name for p in (tmp_path / "out" / "drawings").iterdir()] == ["t1.png"]
    alone = answers(predict(totes / "t1.png", "--json"))["pictures"][0]
    assert good["instances"] == alone["instances"], "an error before changes nothing"


@pytest.mark.parametrize("folder", [True, False])
def test_the_exit_code_is_2_when_nothing_worked(predict, tmp_path, folder):
    (tmp_path / "empty.png").touch()
    done = predict(tmp_path / ("*.jpg" if folder else "empty.png"))
    assert done.code == 2
    assert done.err.count("error: ") == done.err.count("  fix: ") == 1


def test_ctrl_c_keeps_what_was_seen(predict, totes, tmp_path, monkeypatch):
    whole = Job.tote

    def interrupted(self, *words):
        seen = whole(self, *words)
        signal.raise_signal(signal.SIGINT)
        return seen

    monkeypatch.setattr(Job, "tote", interrupted)
    done = predict(totes, "--out", tmp_path / "out", "--json")
    card = answers(done, code=130)
    assert [p["error"] for p in card["pictures"]] == [None]
    assert card["left_out"] == ["1 of 2 pictures: stopped before them"]
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == card


def test_a_box_outside_is_the_pictures_error(predict, shelf, tmp_path):
    big = np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "big.png"), big)
    small = shelf.references / "P1" / "1.jpg"
    card = answers(
        predict(small, tmp_path / "big.png", "--kind", "view", "--json", "--box", "300,300,50,50"),
        code=1,
    )
    assert card["pictures"][0]["error"]["kind"] == "bad_box"
    assert card["pictures"][1]["box"] == [300, 300, 50, 50]


def test_the_folder_holds_drawings_and_label_maps(predict, totes, tmp_path):
    out = tmp_path / "seen"
    card = answers(predict(totes, "--json", "--out", out, "--save-masks"))
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == [
        "drawings/t1.png", "drawings/t2.png", "masks/t1.png", "masks/t2.png", "predictions.json",
    ]  # fmt: skip
    for picture in card["pictures"]:
        labels = cv2.imread(str(out / picture["masks"]), cv2.IMREAD_UNCHANGED)
        assert (labels.dtype, labels.shape) == (np.uint16, (360, 480))
        best = picture["instances"][0]
        rle = coco_mask.frPyObjects(best["segmentation"], 360, 480)
        np.testing.assert_array_equal(labels == 1, coco_mask.decode(rle).astype(bool))
        drawn = cv2.imread(str(out / picture["drawing"]))
        assert drawn.shape[1] > 480, "the list is beside the picture"
        assert drawn.shape[0] > 360, "the banner of random weights is above it"


def test_the_drawing_of_a_view_is_below_its_answers(predict, shelf, tmp_path):
    words = (shelf.references / "P1" / "1.jpg", "--kind", "view", "--out", tmp_path / "seen")
    assert predict(*words).code == 0
    drawn = cv2.imread(str(tmp_path / "seen" / "drawings" / "1.png"))
    assert drawn.shape[1] >= 480, "a small picture is enlarged"


@pytest.mark.parametrize(
    "words",
    [
        ["{tote}", "--box", "1,2,3,4"],
        ["{tote}", "--view", "image"],
        ["{tote}", "--save-masks"],
        ["{tote}", "--kind", "view", "--box", "1,2,3"],
        ["{tote}", "--out", "{totes}"],
        ["{tote}", "--out", "{tote}"],
        ["{tote}", "--gallery", "{totes}"],
        ["{tote}", "--container", "tote-Z"],
        ["{tote}", "--manifest", "{manifest}"],
        ["{tote}", "--score-max", "1"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_said_before_anything_is_looked_at(predict, totes, shelf, words):
    places = {"tote": totes / "t1.png", "totes": totes, "manifest": shelf.manifest}
    done = predict(*(w.format(**places) for w in words))
    assert done.code == 2
    assert done.out == ""
    assert sorted(p.name for p in totes.iterdir()) == ["t1.png", "t2.jpg"]


def test_containers_and_manifests_want_a_gallery(predict, totes, shelf, sketch_bundle):
    words = ("--manifest", shelf.manifest, "--container", "tote-A")
    done = predict(totes / "t1.png", *words, folder=sketch_bundle)
    assert done.code == 2
    assert "--gallery" in done.err
    card = answers(predict(totes / "t1.png", *words, "--gallery", shelf.gallery, "--json",
                           folder=sketch_bundle))  # fmt: skip
    assert card["gallery"]["compared_with"] == 5


def test_random_weights_are_refused_without_leave(predict, totes):
    done = predict(totes / "t1.png", untrained=False)
    assert done.code == 2
    assert "random weights" in done.err
    assert done.out == ""


def test_the_median_of_two_pictures_lies_between_them(capsys):
    from robollm.cli.predict_table import show_all

    pictures = [
        {"file": f"{ms}.png", "size": [9, 9], "error": None, "ms": {"total": ms}, "instances": []}
        for ms in (300.0, 100.0)
    ]
    machine = {"cpu": "x", "cores": 2, "others_cores": 0}
    how = {"threads": 0, "provider": "cpu", "precision": "fp32", "crop_features": "crops"}
    show_all({
        "kind": "tote", "bundle": {"title": "b"}, "gallery": None, "pictures": pictures,
        "failed": 0, "conditions": {**how, "machine": machine, "load_s": 1.0},
    })  # fmt: skip
    assert "200 ms a picture (median of 2, longest 300)" in capsys.readouterr().out
