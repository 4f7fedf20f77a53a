"""Samples and truth that the data lose make a run partial, with counts; what is clipped doesn't."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
from pathlib import Path

import pytest
from in_process import answered
from tiny_armbench import write_defects, write_totes

import robollm
from robollm.data.armbench_defects import IMAGE_ROOT
from robollm.data.armbench_segmentation import MIX, ROOT
from robollm.eval.losses import EFFECTS, losses
from robollm.eval.report import summary
from robollm.eval.report.report import write_report
from robollm.eval.score import score

HOME = Path(robollm.__file__).parent
ROOMS = ("core", "data", "metrics", "eval")
"""Whose problems and errors can become a problem of a run."""
CARRIED = {"e.kind", "error.kind", "kind"}
"""Of an error that was caught, or a loop over kinds that are named beside it."""


def _kinds_in(file):
    """Every kind that a file notes or raises: words, names of constants, and the rest as code."""
    module = importlib.import_module(
        ".".join(("robollm", *file.relative_to(HOME).with_suffix("").parts))
    )
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        found = node.args[:1] if name == "note" else []
        if name.endswith("Error"):
            found = [word.value for word in node.keywords if word.arg == "kind"]
        for one in found:
            for part in (one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,):
                value = getattr(part, "value", None)
                if isinstance(part, ast.Name):
                    value = getattr(module, part.id, None)
                yield value if isinstance(value, str) else f"code {ast.unparse(part)}"


def test_every_kind_of_problem_has_an_effect():
    seen = {
        kind for room in ROOMS for file in (HOME / room).rglob("*.py") for kind in _kinds_in(file)
    }
    code = {kind.removeprefix("code ") for kind in seen if kind.startswith("code ")}
    assert code == CARRIED  # other code makes a kind that nobody can look up
    told = {kind for kind in seen if not kind.startswith("code ")}
    assert len(told) > 50
    assert told - set(EFFECTS) == set(), "say in robollm/eval/losses.py what these lose"


def test_a_kind_that_nodes_count_is_no_loss():
    assert losses({"ros_late": 3, "clipped_box": 2, "no_outline": 1}) == []


def _edited(folder, edit):
    file = folder / ROOT / MIX / "test.json"
    coco = json.loads(file.read_text())
    edit(coco)
    file.write_text(json.dumps(coco))


def _emptied(coco):
    for one in coco["annotations"][::2]:
        one["segmentation"] = []


def _first(**changed):
    return lambda coco: coco["annotations"][-1].update(changed)


def _repeated(coco):
    coco["images"].append(dict(coco["images"][0]))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_emptied, "7 annotations of the data can't be used"),
        (_first(segmentation=[[1, 2, 3]]), "1 bad_segmentation"),
        (_first(bbox=[5, 5, 0, 4]), "1 degenerate_box"),
        (_first(bbox=[500, 5, 9, 4]), "1 outside_box"),
        (_first(image_id=999), "1 orphan_annotation"),
        (_first(category_id=99), "1 unknown_category"),
        (_repeated, "1 samples of the data can't be used: 1 repeated_image"),
    ],
)
def test_lost_annotations_and_images_make_a_run_partial(tmp_path, monkeypatch, edit, words):
    write_totes(tmp_path / "data", images=4, subsets=(MIX,))
    _edited(tmp_path / "data", edit)
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    metrics = score(run, draws=100)
    assert metrics.partial
    assert words in " ".join(metrics.partial_reasons)
    # A perfect answer to what is left is still perfect: figures alone would tell nobody.
    assert metrics.sections[0].figures["object_only_mask_mAP50"].value == 1.0


def test_a_box_that_was_clipped_is_no_loss(tmp_path, monkeypatch):
    write_totes(tmp_path / "data", images=4, subsets=(MIX,))
    _edited(tmp_path / "data", lambda coco: coco["annotations"][-1].update(bbox=[55, 5, 30, 20]))
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    assert run.card["problems"]["counts"]["clipped_box"] == 1
    assert not score(run, draws=100).partial


def test_lost_truth_is_in_json_markdown_and_the_banner(tmp_path, monkeypatch):
    write_totes(tmp_path / "data", images=4, subsets=(MIX,))
    _edited(tmp_path / "data", _emptied)
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    metrics = score(run, draws=100)
    banner = summary.banners(run.card, metrics)[0]
    assert (banner.kind, "7 empty_segmentation" in " ".join(banner.lines)) == ("partial", True)
    page = write_report(run, metrics)
    assert "7 empty_segmentation" in " ".join(metrics.to_json()["partial_reasons"])
    for text in (page.read_text(), page.with_suffix(".md").read_text().replace("\\", "")):
        assert "7 empty_segmentation" in text


def test_the_caption_of_defects_says_in_which_form_boxes_are_written(tmp_path, monkeypatch):
    write_defects(tmp_path / "data", inducts=3)
    for file in (tmp_path / "data" / IMAGE_ROOT / "data").rglob("*_0.json"):
        file.write_text(json.dumps({"label": "nominal", "box": [9, 8, 5, 6]}))
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    assert {tuple(r.box) for r in run.records("defects") if r.box} == {(9, 8, 14, 14)}
    (section,) = score(run, draws=100).sections
    assert "crop box (x, y, width, height in the annotations)" in section.protocol
    whole = answered(monkeypatch, tmp_path / "data", tmp_path / "whole", defect_crop="image")
    assert "crop image;" in score(whole, draws=100).sections[0].protocol
    assert "box_form" not in whole.card["problems"]["counts"]


def test_an_induct_image_with_a_box_of_no_use_is_a_lost_sample(tmp_path, monkeypatch):
    write_defects(tmp_path / "data", inducts=3, frames=3)
    (one, *_) = sorted((tmp_path / "data" / IMAGE_ROOT / "data").rglob("*_1.json"))
    one.write_text(json.dumps({"label": "nominal", "box": [14, 9, 3, 2, 1]}))
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    assert "1 bad_box" in " ".join(score(run, draws=100).partial_reasons)
    shutil.rmtree(tmp_path / "run")
    one.write_text(json.dumps({"label": "nominal", "box": [4, 4, 99, 15]}))
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    assert run.card["problems"]["counts"]["clipped_box"] == 1
    assert not score(run, draws=100).partial
