"""The gate's test set: small, seeded, the same bytes, and as true as what it was cut from."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from gate_kit import tool, write_dataset
from in_process import answered

from robollm.core.errors import ConfigError
from robollm.data import armbench_defects as defects
from robollm.data import armbench_identification as picks
from robollm.data import armbench_segmentation as totes
from robollm.data.images import image_size
from robollm.eval.score import headline, score

cutter, choice, accepted = tool("gate_data"), tool("gate_choice"), tool("gate_accepted")
FEW = cutter.Options(totes=6, transfer_totes=3, picks=8, inducts=12, references=1, tote_side=32,
                     pick_side=12, view_side=14, reference_side=10)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("whole") / "ds")


@pytest.fixture(scope="module")
def part(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("gate") / "data"
    cutter.cut(dataset, out, FEW)
    return out


def test_the_same_data_gives_the_same_bytes_and_another_seed_another_choice(
    dataset, part, tmp_path
):
    cutter.cut(dataset, tmp_path / "again", FEW)
    assert accepted.digest_of(tmp_path / "again") == accepted.digest_of(part)
    cutter.cut(dataset, tmp_path / "again", FEW._replace(seed=1))  # over its own
    assert accepted.digest_of(tmp_path / "again") != accepted.digest_of(part)


def test_it_is_evaluated_and_whoever_knows_the_truth_is_right(part, tmp_path, monkeypatch):
    run = answered(monkeypatch, part, tmp_path / "run")
    assert run.card["data"]["kind"] == "simulated"
    assert run.card["data"]["samples"] == {
        **{f"segmentation/{s}": n for s, n in zip(totes.SUBSETS, (6, 3, 3), strict=True)},
        "identification": 8, "defects": 24,
    }  # fmt: skip
    metrics = score(run, draws=20)
    assert not metrics.partial
    figures = {k: v for k, v in headline(metrics).items() if "verdict" not in k}
    assert {v for k, v in figures.items() if "fpr" not in k or "@" in k} == {1.0}


def test_all_groups_are_there(part):
    totes_of = json.loads((part / totes.ROOT / totes.MIX / "test.json").read_text())
    items = Counter(
        sum(a["image_id"] == i["id"] and a["category_id"] == totes.OBJECT
            for a in totes_of["annotations"])
        for i in totes_of["images"]
    )  # fmt: skip
    small = sum(n for items, n in items.items() if items <= 5)
    assert (small, items.total() - small) == (3, 3)
    split = picks.read_split(part / picks.ROOT)
    truths = [picks.read_pick(part / picks.ROOT, one) for one in split["testset"]]
    events = {
        row["id"]: row["event"]
        for row in map(json.loads, (part / "truth.jsonl").read_text().splitlines())
    }
    assert Counter(events[p.id] for p in truths) == {"nominal": 6, "open": 2}
    assert len({p.truth for p in truths}) >= 6  # of 8 products
    wanted = {product for p in truths for product in p.manifest}
    assert set(split["testset-objects"]) == wanted
    assert all(len(picks.references(part / picks.ROOT, p)) == 1 for p in wanted)
    inducts = defects.read_list(part / defects.IMAGE_ROOT / "test.csv")
    assert Counter(events[one] for one in inducts).keys() == {
        "nominal", "multi_pick", "open", "deconstruction"
    }  # fmt: skip


def test_pictures_are_smaller_and_masks_follow(dataset, part):
    assert {image_size(p) for p in part.glob(f"{totes.ROOT}/*/images/*.jpg")} == {(24, 32)}
    assert {image_size(p) for p in part.glob(f"{picks.ROOT}/Picks/*/PickRGB.jpg")} == {(12, 12)}
    assert {image_size(p) for p in part.glob(f"{picks.ROOT}/Picks/*/ToteWallRGB.jpg")} == {(14, 14)}
    assert {image_size(p) for p in part.glob(f"{picks.ROOT}/Ref*/*/*.jpg")} == {(10, 10)}
    split = json.loads((part / totes.ROOT / totes.MIX / "test.json").read_text())
    tote = next(a for a in split["annotations"] if a["category_id"] == totes.TOTE)
    thing = next(a for a in split["annotations"] if a["category_id"] == totes.OBJECT)
    assert tote["bbox"] == [1, 1, 30, 22]  # was 2, 2, 60, 44
    assert thing["bbox"][2:] == [5, 8]  # 10 x 15 from x 5 and y 5: its odd columns and rows
    assert thing["area"] == 40
    inducts = defects.read_list(part / defects.IMAGE_ROOT / "test.csv")
    image = next(defects.read_images(part / defects.IMAGE_ROOT, inducts))
    assert image.box == (1, 1, 11, 11)  # 2, 2, 12, 12 of 16 px, on 14


def test_pictures_of_one_drop_still_say_so(dataset, part):
    def drops(root):
        split = json.loads((root / totes.ROOT / totes.MIX / "test.json").read_text())
        return {image["file_name"]: str(image["drop"]) for image in split["images"]}

    whole, kept = drops(dataset), drops(part)
    assert kept
    assert kept.items() <= whole.items()


def test_a_sample_that_is_chosen_has_what_it_had(dataset, part):
    for one in picks.read_split(part / picks.ROOT)["testset"]:
        before, after = (picks.read_pick(r / picks.ROOT, one) for r in (dataset, part))
        assert (before.truth, before.manifest, before.titles) == (
            after.truth, after.manifest, after.titles,
        )  # fmt: skip
        assert before.views.keys() == after.views.keys()
    for one in defects.read_list(part / defects.IMAGE_ROOT / "test.csv"):
        before, after = (
            [i.label for i in defects.read_images(r / defects.IMAGE_ROOT, [one])]
            for r in (dataset, part)
        )
        assert before == after


def test_its_readme_says_how_it_was_made(part):
    words = (part / "README.md").read_text()
    assert "--seed 0 --totes 6 --transfer-totes 3 --picks 8" in words
    assert "robollm sim dataset --out D" in words
    assert "Apache-2.0" in words
    assert str(part) not in words


def test_too_much_is_refused_and_nothing_is_left(dataset, tmp_path):
    with pytest.raises(ConfigError, match="MB, want at most"):
        cutter.cut(dataset, tmp_path / "data", FEW, most=1000)
    assert list(tmp_path.iterdir()) == []


def test_neither_another_folder_nor_other_data_is_taken(dataset, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="no gate data"):
        cutter.cut(dataset, tmp_path, FEW)
    with pytest.raises(ConfigError, match=r"has no card\.json"):
        cutter.cut(tmp_path, tmp_path / "out", FEW)


def test_a_damaged_sample_ends_it(dataset, tmp_path, capsys):
    shutil.copytree(dataset, tmp_path / "ds")
    next((tmp_path / "ds").glob(f"{totes.ROOT}/*/images/*.jpg")).unlink()
    out = tmp_path / "out"
    assert cutter.main(["--data", str(tmp_path / "ds"), "--out", str(out), "--totes", "2"]) == 2
    assert "missing_image" in capsys.readouterr().err
    assert not out.exists()


# Choosing


def test_dealing_gives_every_group_its_share_and_fills_from_the_others():
    groups = {"a": ["a1", "a2", "a3"], "b": ["b1"], "c": ["c1", "c2", "c3"]}
    assert choice.dealt(groups, {"a": 1, "b": 1, "c": 1}) == ["a1", "b1", "c1"]
    assert choice.dealt(groups, {"a": 2, "b": 3, "c": 0}) == ["a1", "a2", "b1", "a3", "c1"]
    assert len(choice.dealt(groups, {"a": 50, "b": 50})) == 7
    assert choice.shares(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}


def test_the_second_of_a_kind_comes_after_the_first_of_all():
    ids = ["x1", "x2", "x3", "y1", "y2", "z1"]
    kinds = {one: one[0] for one in ids}
    assert choice.distinct_first(ids, kinds.__getitem__) == ["x1", "y1", "z1", "x2", "y2", "x3"]


def test_the_order_depends_on_ids_and_seed_alone():
    ids = [f"id{n}" for n in range(50)]
    assert choice.shuffled(reversed(ids), 3) == choice.shuffled(ids, 3)
    assert choice.shuffled(ids, 3) != choice.shuffled(ids, 4)
    kept = [one for one in choice.shuffled(ids, 3) if one != "id7"]
    assert choice.shuffled(set(ids) - {"id7"}, 3) == kept


def test_a_picture_is_never_made_larger():
    rgb = np.zeros((10, 20, 3), np.uint8)
    assert cutter.smaller(rgb, 40) is rgb
    assert cutter.smaller(rgb, 5).shape == (2, 5, 3)
