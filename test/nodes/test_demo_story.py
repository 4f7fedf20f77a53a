"""What the demo makes of answers and truth, and what it runs on."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from robollm.core.errors import ConfigError, ModelFileError
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_writer
from robollm.runtime import overlay
from robollm.runtime.bundle import load_bundle
from robollm.runtime.default_bundle import NAME

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def tools():
    """The demo's modules, which find each other as they do in `python tools/demo.py`."""
    names = ("demo", "demo_sheet", "demo_story")
    sys.path.insert(0, str(TOOLS))
    try:
        yield SimpleNamespace(**{name: __import__(name) for name in names})
    finally:
        sys.path.remove(str(TOOLS))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def pick(tools):
    """Make a pick that all is right with, but for what is given."""
    base = tools.demo_story.Pick(
        name="pick-0001", verdict="nominal", score=0.9, product="A", probability=0.8,
        views=2, expected=2, event_ms=100.0,
        true_product="A", in_manifest=True, true_label="nominal", true_event="nominal",
    )  # fmt: skip
    return lambda **other: dataclasses.replace(base, **other)


@pytest.mark.parametrize(
    ("true", "verdict", "mark"),
    [
        ("nominal", "nominal", "right"),
        ("multi_pick", "multi_pick", "right"),
        ("multi_pick", "nominal", "FALSE NOMINAL"),
        ("package_defect", "nominal", "FALSE NOMINAL"),
        ("nominal", "multi_pick", "false alarm"),
        ("multi_pick", "package_defect", "other defect"),
        ("nominal", "uninspected", "not inspected"),
        ("package_defect", "uninspected", "not inspected"),
    ],
)
def test_a_defect_that_passes_as_nominal_is_no_ordinary_mistake(pick, true, verdict, mark):
    assert pick(true_label=true, verdict=verdict).verdict_mark == mark


@pytest.mark.parametrize(
    ("product", "known", "stranger"),
    [
        ("A", "right", "WRONG"),  # of a stranger, even its own name: the manifest lacks it
        ("B", "WRONG", "WRONG"),
        ("ambiguous", "not named", "right"),
        ("unknown", "not named", "right"),
        ("not_in_manifest", "not named", "right"),
        ("", "not named", "not named"),  # nothing was heard: that is no answer to either
    ],
)
def test_doubt_is_right_only_of_what_the_manifest_lacks(pick, product, known, stranger):
    assert pick(product=product).product_mark == known
    assert pick(product=product, in_manifest=False).product_mark == stranger


def test_answers_and_truth_are_joined_by_pick(tools):
    heard = {"pick_id": "p2", "verdict": "nominal", "score": 0.7, "product": "A",
             "probability": 0.6, "views": {"on_arm_low": []}, "event_ms": None}  # fmt: skip
    true = {"product_id": "B", "in_manifest": True, "label": "package_defect", "event": "open"}
    [one] = tools.demo_story.told(
        {"picks": [heard], "views_expected": 2},
        {"picks": [{"id": "p1", **true}, {"id": "p2", **true}]},
    )
    assert (one.name, one.views, one.expected) == ("p2", 1, 2)
    assert (one.product_mark, one.verdict_mark) == ("WRONG", "FALSE NOMINAL")
    assert math.isnan(one.event_ms)


def test_the_sum_counts_by_hand_and_warns_of_every_defect_that_passed(tools, pick):
    picks = [
        *(pick(event_ms=ms) for ms in (100.0, 110.0, 120.0)),
        pick(name="late", views=1, event_ms=1800.0),
        pick(name="slipped", true_label="package_defect", true_event="open", score=0.55),
        pick(name="stranger", in_manifest=False, product="unknown"),
        pick(name="mute", product="", event_ms=math.nan, verdict="uninspected", views=0),
        pick(name="untold", event_ms=math.nan),
    ]
    said = tools.demo_story.summary(picks).splitlines()
    assert said[0].startswith(
        "verdicts: 6 of 8 right (95 % interval 0.35 to 0.97); "
        "1 false nominal, 0 false alarm, 0 other defect, 1 not inspected"
    )
    assert said[1].startswith("products: 6 of 7 right")
    assert said[1].endswith("0 wrong, 1 not named")
    assert said[2].startswith("products that the manifest lacks: 1 of 1 given no name of it")
    assert "p50 100 ms, p95 118 ms of 5 picks with all views (2 not counted" in said[3]
    assert said[3].endswith("1 not counted: an answer or its time is missing)")
    [warning] = said[4:]
    assert warning.startswith("WARNING: slipped is open and was called nominal (0.55)")


def test_the_table_marks_what_is_the_truth(tools, pick):
    text = tools.demo_story.table([pick(in_manifest=False, event_ms=math.nan)])
    head, rule, row, *_ = text.splitlines()
    assert len(head) == len(rule) == len(row)
    assert head.count("*") == 2
    assert "A (not in manifest)" in row
    assert "* the simulator's truth, which no node sees" in text


def test_the_contact_sheet_holds_every_picture_and_is_coloured_by_the_truth(tools, pick, tmp_path):
    picks = [pick(), pick(name="pick-0002", verdict="multi_pick", product="ambiguous")]
    files, colours = [], (overlay.GOOD, overlay.BAD, overlay.DOUBT)
    for p in picks:
        files.append(tmp_path / f"{p.name}.png")
        cv2.imwrite(str(files[-1]), np.full((70, 112, 3), 200, np.uint8))
    sheet = cv2.imread(str(tools.demo_sheet.contact_sheet(picks, files, "bundle x", True)))
    assert [(sheet == c).all(axis=2).any() for c in colours] == [True, True, True]
    grey = cv2.imread(str(tools.demo_sheet.contact_sheet(picks, files, "bundle x", False)))
    # Random weights are never good; BAD is the mark above all.
    assert [(grey == c).all(axis=2).any() for c in colours] == [False, True, False]
    files[0].unlink()
    with pytest.raises(OSError, match="can't read"):
        tools.demo_sheet.contact_sheet(picks, files, "bundle x", True)


def test_nothing_is_deleted_in_a_folder_that_is_no_demos(tools, tmp_path):
    for name in ("data/mine.txt", "report/mine.txt", "pick-0001.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"no perception\.log that says"):
        tools.demo.claim(tmp_path)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 3
    (tmp_path / "perception.log").touch()
    tools.demo.claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["perception.log"]
    tools.demo.claim(tmp_path / "new" / "folder")
    assert tools.demo.main(["--out", str(tmp_path / "perception.log")]) == 1  # a file: said so


def test_without_the_default_bundle_random_weights_are_shown_with_loud_words(
    tools, sketch_bundle, tmp_path, monkeypatch, capsys
):
    made = []

    def robollm(*words, quiet=False):
        made.append(words[0])
        shutil.copytree(sketch_bundle, words[2])

    monkeypatch.setattr(tools.demo, "robollm", robollm)
    bundle = tools.demo.choose_bundle("", tmp_path, [])
    assert made == ["sketch-bundle"]
    assert not bundle.trained
    said = capsys.readouterr().out
    assert f"UNTRAINED: no bundle is named, and the default one, '{NAME}', is not there" in said
    assert tools.demo.untrained("--allow-untrained", bundle) == ["--allow-untrained"]


def test_a_default_bundle_that_is_damaged_is_an_error_and_no_reason_for_random_weights(
    tools, sketch_bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr(tools.demo, "robollm", lambda *words, quiet=False: pytest.fail("called"))
    shutil.copytree(sketch_bundle, tmp_path / NAME)
    with pytest.raises(ModelFileError, match="random weights"):  # it is there, and untrained
        tools.demo.choose_bundle("", tmp_path, [tmp_path])
    (tmp_path / NAME / "bundle.json").write_text("{}")
    with pytest.raises(ModelFileError, match="not a robollm bundle"):
        tools.demo.choose_bundle("", tmp_path, [tmp_path])
    with pytest.raises((ConfigError, ModelFileError), match="no model bundle"):
        tools.demo.choose_bundle("nothing", tmp_path, [tmp_path])


@pytest.mark.parametrize("wrong", ["", "product", "bundle"])
def test_the_bundles_gallery_is_used_if_it_fits_and_has_all_products(
    tools, sketch_bundle, tmp_path, monkeypatch, capsys, wrong
):
    built = []
    monkeypatch.setattr(tools.demo, "robollm", lambda *words, quiet=False: built.append(words))
    bundle = load_bundle(sketch_bundle, allow_untrained=True)
    bundle = dataclasses.replace(bundle, folder=tmp_path)
    made_with = MadeWith(bundle.embedding_sha256, bundle.title)
    create_gallery(tmp_path / "gallery", dim=2, made_with=made_with)
    with open_writer(tmp_path / "gallery", made_with=made_with) as writer:
        for product, vector in (("A", [1, 0]), ("B", [0, 1])):
            writer.add_references(
                product, np.float32([vector]), sources=[f"{product}.jpg"], sha256s=["00"]
            )
        writer.commit()
    before = sorted(p.name for p in (tmp_path / "gallery").iterdir())
    if wrong == "bundle":
        bundle = dataclasses.replace(bundle, embedding_sha256="0" * 64)
    (tmp_path / "data").mkdir()
    tools.demo.take_gallery(bundle, tmp_path / "data", {"A", "C" if wrong == "product" else "B"})
    said = capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "gallery").iterdir()) == before
    if not wrong:
        assert said == f"gallery: {tmp_path / 'gallery'}, shipped with the bundle, 2 products\n"
        assert (tmp_path / "data" / "gallery").is_dir()
        assert built == []
        return
    why = {"product": "it lacks 1 of the demo's 2 products", "bundle": "was made with bundle"}[
        wrong
    ]
    assert f"{tmp_path / 'gallery'} is not used: " in said
    assert why in said
    assert "built from the products' reference pictures" in said
    assert not (tmp_path / "data" / "gallery").exists()
    [words] = built
    assert words[:2] == ("gallery", "build")
    assert "--allow-untrained" in words
