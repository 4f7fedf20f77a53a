"""Picks as samples: splits, views, what is wrong with them, families and wrong labels."""

from __future__ import annotations

import itertools
import json

import cv2
import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.data import armbench_identification as armbench
from robollm.data import jpeg
from robollm.train.parts import register_parts

register_parts("identification")

from pick_folders import (  # noqa: E402
    THREE,
    evaluate,
    head,
    photo,
    picture,
    product_id,
)

from robollm.train.engine.draws import Draw, Void, collate  # noqa: E402
from robollm.train.identification.data import PickData  # noqa: E402
from robollm.train.identification.families import families, mislabel  # noqa: E402


def test_validation_and_test_products_are_never_trained_on(whole):
    parts = {s: PickData(whole, s, size=16) for s in ("train", "val", "test")}
    truths = {s: {p.truth for p in d.picks} for s, d in parts.items()}
    for one, other in itertools.combinations(truths, 2):
        assert not truths[one] & truths[other]
    assert truths["val"] == {product_id(n) for n in (12, 13, 14)}
    shown = {parts["train"][Draw(i, i % 36)]["data_samples"]["product_id"] for i in range(99)}
    assert shown == truths["train"]


def test_without_a_validation_file_a_seeded_share_of_the_products_validates(own):
    (own / armbench.VALIDATION_FILE).unlink()
    drawn = [PickData(own, "val", size=16, val_share=0.5, split_seed=s) for s in (0, 0, 1, 2, 3)]
    truths = [tuple(sorted({p.truth for p in d.picks})) for d in drawn]
    assert truths[0] == truths[1]
    assert len(set(truths)) > 1
    learnt = {p.truth for p in PickData(own, "train", size=16, val_share=0.5).picks}
    assert len(truths[0]) == 2
    assert not learnt & set(truths[0])
    assert learnt | set(truths[0]) == {product_id(n) for n in range(4)}


def test_a_validation_file_that_names_other_products_is_refused(own):
    named = {"objects": [product_id(4)]}
    (own / armbench.VALIDATION_FILE).write_text(json.dumps(named))
    with pytest.raises(ConfigError, match="not training products, first: B000000004"):
        PickData(own, "val", size=16)


def test_a_split_with_a_product_on_both_sides_is_refused():
    products = {"train": ("a", "b"), "val": ("b",), "test": ()}
    with pytest.raises(ConfigError, match="1 products are in train and in val, first: b"):
        armbench.Split(products, {"train": (), "test": ()})


def test_a_product_that_is_trained_on_and_tested_is_only_tested(own):
    lists = armbench.read_split(own)
    armbench.write_split(
        own,
        {"train": lists["trainset"], "val": [], "test": lists["testset"]},
        {"train": [*lists["trainset-objects"], product_id(4)], "val": [product_id(3)],
         "test": lists["testset-objects"]},
    )  # fmt: skip
    data = PickData(own, "train", size=16)
    assert product_id(4) not in {p.truth for p in data.picks}
    assert data.problems.counts == {"product_in_train_and_test": 1}


def test_a_training_sample_shows_a_pick_and_a_reference_of_its_product(whole):
    data = PickData(whole, "train", size=24, views=THREE)
    sample = data[Draw(3, 7)]
    assert {k: v.shape for k, v in sample["inputs"].items()} == {
        "views": (3, 3, 24, 24),
        "present": (3,),
        "reference": (3, 24, 24),
    }
    about = sample["data_samples"]
    number = int(about["product_id"][1:])
    assert data.products[about["product"]] == about["product_id"]
    assert about["pick"].startswith(str(number))
    want = picture(number, 0).mean(axis=(0, 1))
    for seen in (*sample["inputs"]["views"], sample["inputs"]["reference"]):
        assert np.abs(seen.mean(axis=(1, 2)) - want).max() < 45


def test_the_same_draw_gives_the_same_sample_and_references_change(whole):
    augment = {"scale": (0.5, 1.0), "flip": 0.5}
    data, again = (PickData(whole, "train", size=16, augment=augment) for _ in range(2))
    one, two = data[Draw(5, 2)], again[Draw(5, 2)]
    assert (one["inputs"]["views"] == two["inputs"]["views"]).all()
    assert (one["inputs"]["reference"] == two["inputs"]["reference"]).all()
    assert len({data[Draw(i, 2)]["name"] for i in range(12)}) == 2


def test_view_dropout_leaves_every_subset_but_none(whole):
    data = PickData(whole, "train", size=8, views=THREE, view_dropout=0.6)
    seen = {tuple(data[Draw(i, 0)]["inputs"]["present"].tolist()) for i in range(150)}
    assert seen == set(itertools.product((False, True), repeat=3)) - {(False, False, False)}


def test_a_segment_crop_is_the_box_of_the_outline(whole):
    part = PickData(whole, "val", size=32, crop="segment")[0]["inputs"]["views"][0]
    rgb = picture(12, 0)[2:38, 6:42]
    want = jpeg.decode(photo(12, 0))[2:38, 6:42]
    assert np.abs(rgb.astype(int) - want).mean() < 12
    want = cv2.resize(np.ascontiguousarray(want), (32, 32), interpolation=cv2.INTER_AREA)
    assert (part == want.transpose(2, 0, 1)).all()


def test_a_split_without_any_outline_is_not_cropped_by_them(own):
    files = sorted(own.glob("Picks/*/annotation.json"))
    files[0].write_text(json.dumps({**json.loads(files[0].read_text()), "segmentation": {}}))
    noted = PickData(own, "train", size=8, crop="segment").problems
    assert noted.counts["no_outline"] == 1
    assert "annotation.json has GT_ID, segmentation" in "\n".join(noted.lines())
    for file in files:
        file.write_text(json.dumps({"GT_ID": json.loads(file.read_text())["GT_ID"]}))
    with pytest.raises(ConfigError, match=r"pictures has an outline.*json has GT_ID") as e:
        PickData(own, "train", size=8, crop="segment")
    assert "crop='image'" in e.value.fix


def test_evaluation_has_the_picks_and_then_the_references_of_their_manifests(whole):
    data = PickData(whole, "val", size=16)
    about = [data[i]["data_samples"] for i in range(len(data))]
    assert [a["kind"] for a in about] == ["pick"] * 9 + ["reference"] * 6
    assert about[0]["manifest"] == tuple(product_id(n) for n in (12, 13, 14))
    assert {a["product_id"] for a in about[9:]} == set(about[0]["manifest"])
    assert len(PickData(whole, "val", size=16, gallery="all")) == 9 + 36


def test_what_is_wrong_with_picks_is_named_and_counted(own):
    picks = own / "Picks"
    for file in picks.glob("0000/*"):
        file.unlink()
    (picks / "0000").rmdir()
    (picks / "0001" / "PickRGB.jpg").unlink()
    (picks / "1000" / "container.json").write_text("{")
    (picks / "1001" / "annotation.json").write_text('{"GT": 1}')
    container = json.dumps({product_id(1): {}})
    (picks / "2000" / "container.json").write_text(container)
    for file in (own / "Reference_Images" / product_id(2)).iterdir():
        file.unlink()
    train = PickData(own, "train", size=16)
    assert [p.id for p in train.picks] == ["1000"]
    assert train.problems.counts == {
        "missing_pick": 1,
        "no_view": 1,
        "truth_not_in_manifest": 1,
        "truth_without_reference": 2,
        "unreadable_container": 1,
        "unreadable_pick": 1,
    }
    assert any("0001" in line and "PickRGB" in line for line in train.problems.lines())


def test_damaged_pictures_are_replaced_in_training_and_void_or_left_out_in_evaluation(own):
    for pick in ("0000", "3000"):
        (own / "Picks" / pick / "PickRGB.jpg").write_bytes(photo(0, 0)[:400])
    first = own / "Reference_Images" / product_id(3) / "1.jpg"
    first.write_bytes(b"nonsense")
    train = PickData(own, "train", size=16)
    sample = train[Draw(0, 0)]
    assert [p.kind for p in sample["problems"]] == ["truncated_image"]
    assert "0000/PickRGB.jpg" in str(sample["problems"][0])
    data = PickData(own, "val", size=16)
    batch = collate([data[i] for i in range(len(data))])
    assert [a.get("usable") for a in batch["data_samples"][:2]] == [False, True]
    assert isinstance(data[len(data.picks)], Void)
    assert sorted(p.kind for p in batch["problems"]) == ["corrupt_image", "truncated_image"]
    found = evaluate(head(), data)
    assert found["recall@1_container"] == 0.5
    assert found["picks_without_view"] == 1


def test_a_folder_without_usable_picks_is_refused(own):
    armbench.write_split(
        own, {"train": ["9"], "val": [], "test": []}, {"train": ["x", "y"], "val": [], "test": []}
    )
    (own / armbench.VALIDATION_FILE).unlink()
    with pytest.raises(ConfigError, match=r"nothing usable; 1 problems.*no annotation"):
        PickData(own, "train", size=16)
    with pytest.raises(ConfigError, match=r"no train-test-split\.pickle in"):
        PickData(own / "Picks", "train", size=16)


@pytest.mark.parametrize(
    ("entry", "want"),
    [
        ("Soap, 2 pcs", "Soap, 2 pcs"),
        ({"weight": 1, "title": "Soap", "description": "long"}, "Soap"),
        ({"description": "long"}, "long"),
        ({"text": "other"}, "other"),
        ({"weight": "1.2 pounds", "item_name": "Soap"}, "Soap"),
        ({"weight": "1.2 pounds", "Name": "Tea"}, "Tea"),
        ({"weight": "1.2 pounds", "text": "Soap, 2 pcs", "size": "4.25 x 11.0"}, "Soap, 2 pcs"),
        ({"title": "1.25", "size": "10 x 20"}, "10 x 20"),
        ({"weight": 1, "size": "12"}, ""),
        (None, ""),
    ],
)
def test_a_title_is_found_under_any_key(entry, want):
    assert armbench.title(entry) == want


def slow_similarity(one, other):
    a, b = (set(t.lower().replace(",", " ").split()) for t in (one, other))
    return len(a & b) / len(a | b) if a and b else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_families_are_those_of_a_loop_over_all_pairs(seed):
    rng = np.random.default_rng(seed)
    titles = {
        f"p{i:03d}": " ".join(rng.choice(list("abcdefgh"), rng.integers(0, 6))) for i in range(60)
    }
    founders, want = [], {}
    for product in sorted(titles):
        scores = [slow_similarity(titles[product], titles[f]) for f in founders]
        if scores and max(scores) >= 0.5:
            want[product] = int(np.argmax(scores))
        else:
            want[product] = len(founders)
            founders.append(product)
    assert families(titles) == want


def test_confusable_wrong_labels_are_of_the_same_family_and_seeded(whole):
    data, again = (PickData(whole, "train", size=16, label_noise=0.2) for _ in range(2))
    assert data.noisy == again.noisy
    assert len(data.noisy) == round(0.2 * 36)
    for true, given in data.noisy.values():
        assert true != given
        assert int(true[1:]) // 3 == int(given[1:]) // 3
    pick = next(iter(data.noisy))
    place = [p.id for p in data.picks].index(pick)
    assert data[Draw(0, place)]["data_samples"]["product_id"] == data.noisy[pick][1]
    other = PickData(whole, "train", size=16, label_noise=0.2, confusable=False)
    assert {i: t for i, (t, _) in other.noisy.items()} == {i: t for i, (t, _) in data.noisy.items()}
    assert any(int(t[1:]) // 3 != int(g[1:]) // 3 for t, g in other.noisy.values())


def test_a_product_alone_in_its_family_is_taken_for_the_nearest_title():
    titles = {"a": "red soap bar", "b": "red towel of cotton for beaches", "c": "pen"}
    wrong = mislabel({"1": "a"}, titles, ["a", "b", "c"], share=1, confusable=True, seed=0)
    assert wrong == {"1": "b"}
