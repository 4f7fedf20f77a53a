"""ARMBench's folders as people give them: found, or it is said what is wrong with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from in_process import answered
from tiny_armbench import write_all, write_defects, write_picks, write_totes

from robollm.core.errors import ConfigError, EvalError, GalleryError
from robollm.data import armbench_defects as layout
from robollm.data.armbench_identification import ROOT as PICKS
from robollm.data.armbench_identification import write_split
from robollm.data.armbench_segmentation import MIX, ROOT, SUBSETS
from robollm.data.jpeg import encode
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import score
from robollm.eval.tasks import folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("above") / "armbench")


@pytest.fixture
def totes(tmp_path):
    write_totes(tmp_path / "data", images=3, subsets=(MIX,))
    return tmp_path / "data"


def only(run):
    (section,) = score(run, draws=100).sections
    return section


# Where it is


def test_everything_is_found_and_named(whole):
    found = folders.find(whole)
    assert set(found.tasks) == set(folders.TASKS)
    assert found.subsets == SUBSETS[:2]
    assert (found.kind, set(found.missing)) == ("armbench", {f"segmentation/{SUBSETS[2]}"})
    assert len(found.lines()) == 5


def test_what_is_missing_is_said(totes, tmp_path, monkeypatch):
    lost = {"identification", "defects", "videos", *(f"segmentation/{s}" for s in SUBSETS[1:])}
    assert set(folders.find(totes).missing) == lost
    run = answered(monkeypatch, totes, tmp_path / "run")
    assert run.card["problems"]["counts"] == {"not_in_data": 5}
    assert "there is no armbench-defects-video-0.1" in " ".join(run.card["problems"]["lines"])
    some = answered(monkeypatch, totes, tmp_path / "some", tasks=("segmentation",), subsets=(MIX,))
    assert some.card["problems"]["counts"] == {}  # nobody asked for more


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (f"{PICKS}/train-test-split.pickle", f"{PICKS} has no train-test-split.pickle"),
        (f"{layout.IMAGE_ROOT}/data", "has no folder data"),
        (f"{layout.IMAGE_ROOT}/*.csv", "has no test.csv, val.csv, train.csv"),
        (f"{ROOT}/{SUBSETS[1]}/*.json", f"{SUBSETS[1]} has no test.json"),
    ],
)
def test_a_folder_that_lacks_a_part_is_not_called_missing_and_makes_a_run_partial(
    whole, tmp_path, monkeypatch, gone, words
):
    data = tmp_path / "data"
    shutil.copytree(whole, data)
    for one in data.glob(gone):
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    run = answered(monkeypatch, data, tmp_path / "run", limit=1)
    assert words in " ".join(run.card["problems"]["lines"])
    assert "found and left out" in " ".join(score(run, draws=100).partial_reasons)
    if ROOT not in gone:
        with pytest.raises(ConfigError, match=words):
            folders.find(data / gone.partition("/")[0])


def test_samples_that_the_split_names_and_nobody_has_make_a_run_partial(tmp_path, monkeypatch):
    write_picks(tmp_path)
    shutil.rmtree(tmp_path / PICKS / "Picks" / "pick0003")
    run = answered(monkeypatch, tmp_path, tmp_path / "run")
    reasons = " ".join(score(run, draws=100).partial_reasons)
    assert "1 samples of the data can't be used: 1 missing_pick" in reasons


def test_a_task_s_own_folder_will_do(whole):
    found = folders.find(whole / ROOT)
    assert set(found.tasks) == {"segmentation"}
    assert found.root == whole


def test_a_later_version_s_folder_is_found(totes):
    (totes / ROOT).rename(totes / "armbench-segmentation-0.2")
    found = folders.find(totes)
    assert found.tasks["segmentation"].name == "armbench-segmentation-0.2"
    assert found.kind == "armbench"


@pytest.mark.parametrize("inner", [f"{ROOT}/{MIX}", f"{ROOT}/{MIX}/images", f"{PICKS}/Picks"])
def test_a_folder_too_deep_is_told_which_to_give(whole, inner):
    with pytest.raises(ConfigError, match="is too deep") as e:
        folders.find(whole / inner)
    assert str(whole) in e.value.fix


def test_a_folder_too_high_is_told_which_to_give(whole):
    with pytest.raises(ConfigError, match="is too high") as e:
        folders.find(whole.parent)
    assert str(whole) in e.value.fix


def test_a_folder_of_something_else_is_refused(tmp_path):
    data = tmp_path / "no" / "data" / "here"  # the search goes up, not as far as other tests' data
    (data / "holiday").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"nothing of ARMBench in .* which has holiday"):
        folders.find(data)
    with pytest.raises(ConfigError, match="there is no folder"):
        folders.find(tmp_path / "nowhere")


def test_a_simulated_set_is_called_so(totes):
    (totes / "card.json").write_text(json.dumps({"format": "robollm-dataset"}))
    assert folders.find(totes).kind == "simulated"


def test_a_missing_split_is_an_error_that_names_those_there_are(totes, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no split 'val', it has test"):
        answered(monkeypatch, totes, tmp_path / "run", split="val")


def test_a_part_without_the_split_is_left_out_and_said(whole, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(whole / ROOT, data / ROOT)
    for name in ("test", "test-rle"):
        file = data / ROOT / SUBSETS[1] / f"{name}.json"
        file.rename(file.with_name(name.replace("test", "val") + ".json"))
    run = answered(monkeypatch, data, tmp_path / "run")
    assert run.streams == [f"segmentation/{MIX}"]
    metrics = score(run, draws=100)
    assert metrics.partial
    assert "found and left out" in " ".join(metrics.partial_reasons)
    with pytest.raises(ConfigError, match="no split 'test'"):
        answered(monkeypatch, data, tmp_path / "other", subsets=(SUBSETS[1],))


@pytest.mark.parametrize(
    ("more", "what"),
    [({"tasks": ("videos",)}, "has no videos"), ({"subsets": ("x",)}, "has no subset x")],
)
def test_what_was_asked_for_by_name_must_be_there(totes, tmp_path, monkeypatch, more, what):
    with pytest.raises(ConfigError, match=what):
        answered(monkeypatch, totes, tmp_path / "run", **more)


# What is wrong within


def test_a_picture_that_is_gone_or_of_another_size_counts_as_not_found(
    totes, tmp_path, monkeypatch
):
    first, second, _ = sorted((totes / ROOT / MIX / "images").iterdir())
    first.write_bytes(encode(np.zeros((10, 10, 3), np.uint8)))
    second.write_bytes(b"\xff\xd8\xff")
    run = answered(monkeypatch, totes, tmp_path / "run")
    section = only(run)
    assert section.counts["no_answer"] == 2
    assert section.counts["no_answer_wrong_size"] == 1
    assert section.figures["object_only_mask_mAP50"].value < 0.7
    assert {w.facts["outcome"] for w in section.worst} == {"no answer"}
    metrics = score(run, draws=100)
    assert metrics.partial
    assert "2 of 3 samples" in metrics.partial_reasons[0]


def test_images_of_several_sizes_are_used_and_counted(totes, tmp_path, monkeypatch):
    file = totes / ROOT / MIX / "test.json"
    coco = json.loads(file.read_text())
    coco["images"][0]["height"] = 40
    file.write_text(json.dumps(coco))
    run = answered(monkeypatch, totes, tmp_path / "run")
    assert run.card["problems"]["counts"]["mixed_sizes"] == 1
    rows = dict(only(run).tables["sizes"].rows)
    assert rows == {"64x48": 2, "64x40": 1}


def test_categories_of_other_names_are_an_error_until_they_are_told(totes, tmp_path, monkeypatch):
    file = totes / ROOT / MIX / "test.json"
    file.write_text(file.read_text().replace('"Object"', '"Item"').replace('"Tote"', '"Bin"'))
    with pytest.raises(ConfigError, match="categories are Bin, Item") as e:
        answered(monkeypatch, totes, tmp_path / "run")
    assert "--category Bin=object" in e.value.fix
    names = {"Item": "object", "Bin": "tote"}
    run = answered(monkeypatch, totes, tmp_path / "run", categories=names)
    assert only(run).figures["object_only_mask_mAP50"].value == 1.0


def test_an_unknown_category_among_known_ones_is_kept_as_other(totes, tmp_path, monkeypatch):
    file = totes / ROOT / MIX / "test.json"
    coco = json.loads(file.read_text())
    coco["categories"].append({"id": 9, "name": "Label"})
    coco["annotations"][-1]["category_id"] = 9
    file.write_text(json.dumps(coco))
    run = answered(monkeypatch, totes, tmp_path / "run")
    assert run.card["problems"]["counts"]["other_category"] == 1
    section = only(run)
    assert section.counts["instances_of_other_categories"] == 1
    assert section.figures["object_only_mask_mAP50"].value == 1.0


def test_an_image_without_truth_costs_what_is_found_in_it(totes, tmp_path, monkeypatch):
    file = totes / ROOT / MIX / "test.json"
    coco = json.loads(file.read_text())
    lost = coco["images"][0]["id"]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] != lost]
    file.write_text(json.dumps(coco))
    section = only(answered(monkeypatch, totes, tmp_path / "run", "chance"))
    assert section.counts["images_without_truth"] == 1
    assert section.samples == 3


def test_an_unknown_label_is_named_and_left_out(tmp_path, monkeypatch):
    write_defects(tmp_path / "data", inducts=3, frames=2)
    folder = next(iter(sorted((tmp_path / "data" / layout.IMAGE_ROOT / "data").iterdir())))
    file = folder / f"{folder.name}_0.json"
    file.write_text(file.read_text().replace("nominal", "crushed"))
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    assert run.card["problems"]["counts"]["unknown_label"] == 1
    assert only(run).counts["images"] == 5


def test_a_pick_whose_product_has_no_reference_counts_as_wrong(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    shutil.rmtree(tmp_path / "data" / PICKS / "Reference_Images" / "B001")
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    section = only(run)
    assert section.counts["picks_without_reference"] == 1
    assert section.figures["recall@1_container_product_n1"].value == 0.75
    assert section.figures["recall@1_all_image_n3"].value == 0.75
    assert section.worst[0].key == "pick0001"
    assert section.worst[0].facts["outcome"] == "no reference"


def test_a_view_that_cannot_be_read_is_asked_without(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    folder = tmp_path / "data" / PICKS / "Picks"
    (folder / "pick0000" / "PickRGB.jpg").write_bytes(b"no picture")
    for view in ("PickRGB", "OnArmLowRGB"):  # it has no third
        (folder / "pick0001" / f"{view}.jpg").write_bytes(b"no picture")
    section = only(answered(monkeypatch, tmp_path / "data", tmp_path / "run"))
    assert section.counts["views_left_out"] == 1
    assert section.counts["picks_without_n1"] == 2
    assert section.counts["no_answer"] == 1
    assert section.figures["recall@1_container_product_n1"].value == 0.5
    assert section.figures["recall@1_container_product_n3"].value == 0.75


def test_picks_of_learned_products_are_tested_and_named(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    folder = tmp_path / "data" / PICKS
    ids = sorted(p.name for p in (folder / "Picks").iterdir())
    write_split(
        folder,
        {"train": [], "val": [], "test": ids},
        {"train": ["B000"], "val": ["B003"], "test": ["B001", "B002"]},
    )
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    assert run.card["problems"]["counts"]["learned_product"] == 2
    assert only(run).samples == 4


# Runs


def test_a_gallery_of_another_predictor_is_refused(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    with pytest.raises(GalleryError, match="made with"):
        answered(
            monkeypatch, tmp_path / "data", tmp_path / "other", "chance",
            gallery=run.path / "gallery",
        )  # fmt: skip


def test_the_same_order_again_does_nothing_and_another_one_is_refused(totes, tmp_path, monkeypatch):
    run = answered(monkeypatch, totes, tmp_path / "run")
    before = {f: f.read_bytes() for f in (run.path / "records").iterdir()}
    answered(monkeypatch, totes, tmp_path / "run")
    assert {f: f.read_bytes() for f in (run.path / "records").iterdir()} == before
    with pytest.raises(EvalError, match=r"holds another run: .*masks is .*polygons.*rle"):
        answered(monkeypatch, totes, tmp_path / "run", masks="rle")


def test_other_samples_are_another_run(totes, tmp_path, monkeypatch):
    answered(monkeypatch, totes, tmp_path / "run", limit=2)
    with pytest.raises(EvalError, match="another run"):
        answered(monkeypatch, totes, tmp_path / "run", limit=3)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (f"{ROOT}/{MIX}/test.json", '"bbox": [5', '"bbox": [6'),
        (f"{PICKS}/Picks/pick0001/annotation.json", "B001", "B002"),
        (f"{layout.IMAGE_ROOT}/data/{0:021}/{0:021}_1.json", "multi_pick", "nominal"),
        (f"{layout.VIDEO_ROOT}/annotations/v0.json", "nominal", "open"),
    ],
)
def test_corrected_truth_is_another_run(whole, tmp_path, monkeypatch, file, old, new):
    root, moved = file.partition("/")[0], tmp_path / "moved" / "data"
    shutil.copytree(whole / root, tmp_path / "data" / root)
    answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    shutil.copytree(tmp_path / "data", moved)
    answered(monkeypatch, moved, tmp_path / "run")  # a place is no matter
    text = (moved / file).read_text()
    assert old in text
    (moved / file).write_text(text.replace(old, new))
    with pytest.raises(EvalError, match=r"another run: data\.digest"):
        answered(monkeypatch, moved, tmp_path / "run")


def test_a_part_calls_itself_partial(totes, tmp_path, monkeypatch):
    metrics = score(answered(monkeypatch, totes, tmp_path / "run", limit=2), draws=100)
    assert metrics.partial
    assert metrics.partial_reasons == ("asked for at most 2 samples of each kind (--limit)",)
    assert metrics.sections[0].samples == 2


def test_truth_without_prediction_makes_a_run_partial(totes, tmp_path, monkeypatch):
    run = answered(monkeypatch, totes, tmp_path / "run")
    (file,) = (run.path / "records").iterdir()
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    metrics = score(answered_again(run), draws=100)
    assert metrics.partial
    assert "1 of 3 samples" in " ".join(metrics.partial_reasons)


def answered_again(run):
    with RunFolder.create_or_resume(run.path, run.card) as again:
        again.note_stream(f"segmentation/{MIX}", 3)
    return RunFolder.open(run.path)
