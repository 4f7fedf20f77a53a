"""From run folders to a bundle that the runtime serves, its card, its variants, and its errors."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported_kit import CANVAS, CROP, VIEWS, Exported
from onnx import numpy_helper

from robollm.core.errors import ConfigError, ModelFileError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.export import trial
from robollm.export.card import DEFAULT_THRESHOLDS, load_thresholds
from robollm.export.collect import collect
from robollm.export.export import export
from robollm.export.judge import Judge, Verdict
from robollm.export.parity import Distances
from robollm.export.reference import TorchModels
from robollm.export.split_data import SplitData
from robollm.export.trial import refusal
from robollm.runtime.bundle import load_bundle
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.train.evaluate import evaluate

Said = Any


def served(bundle: Path, precision: str = "fp32") -> Perceiver:
    return Perceiver(RuntimeConfig(bundle=str(bundle), precision=precision, threads=1))


def picture(seed: int, hw: tuple[int, int]) -> Frame:
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    return Frame(pixels, "rgb", stamp_ns=1 + seed)


def card_of(bundle: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    return card


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_runtime_serves_an_exported_bundle(precision: str, exported: Exported) -> None:
    perceiver = served(exported.bundle, precision)
    tote = picture(1, CANVAS)
    found = perceiver.segment(tote, score_min=0.0)
    assert len(found) > 0
    vectors = perceiver.embed([Region(tote, (0, 0, 40, 50)), Region(tote)])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert sum(perceiver.inspect([Region(tote)])[0].values()) == pytest.approx(1)


def test_the_runtime_says_what_torch_says(exported_three: Exported) -> None:
    perceiver = served(exported_three.bundle)
    torch = TorchModels(collect(exported_three.runs))
    frame = picture(2, (CROP, CROP))
    crop = (frame.pixels.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 127.5
    np.testing.assert_allclose(perceiver.embed([Region(frame)]), torch.embed(crop), atol=1e-5)
    logits = torch.inspect_sequences(crop[:, None], np.ones((1, 1), np.bool_))[0].astype(float)
    want = np.exp(logits) / np.exp(logits).sum()
    got = perceiver.inspect([Region(frame)])[0]
    assert list(got.values()) == pytest.approx(list(want), abs=1e-5)
    tote = picture(3, CANVAS)
    canvas = (tote.pixels.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 127.5
    found = perceiver.segment(tote, score_min=0.0)
    np.testing.assert_allclose(found.boxes, torch.segment(canvas).boxes, atol=1e-2)


def test_the_judge_finds_what_the_training_found(exported: Exported) -> None:
    values = exported.done["metrics"]["values"]
    (run,) = exported.runs
    trained = evaluate(run, exported.data, "test")["metrics"]
    assert values == pytest.approx({name: trained[name] for name in values}, abs=1e-9)


@pytest.mark.parametrize("task", ["identification", "defects"])
def test_the_judge_of_views_and_sequences_finds_what_the_training_found(
    task: str, exported_three: Exported
) -> None:
    run = exported_three.runs[("segmentation", "identification", "defects").index(task)]
    trained = evaluate(run, exported_three.data, "test")["metrics"]
    values = exported_three.done["metrics"]["values"]
    mine = {k.partition("/")[2]: v for k, v in values.items() if k.startswith(task)}
    assert mine == pytest.approx({name: trained[name] for name in mine}, abs=1e-9)


def test_the_card_says_where_it_comes_from_and_what_was_measured(exported: Exported) -> None:
    card = card_of(exported.bundle)
    assert card["status"] == "trained"
    assert card["provenance"]["runs"][0]["run"] == "run"
    assert card["provenance"]["runs"][0]["step"] == 3
    assert card["provenance"]["thresholds"] == {"calibrated": False, "sha256": None}
    assert card["metrics"]["samples"] == {"segmentation": 2, "identification": 9, "defects": 6}
    assert card["metrics"]["split"] == "test"
    assert set(card["variants"]) == {"fp32", "int8"}
    assert set(card["variants"]["int8"]["loss"]) == set(card["metrics"]["values"])
    assert card["variants"]["int8"]["graphs"] == {
        "backbone": "backbone.int8.onnx", "rois": "rois.int8.onnx",
    }  # fmt: skip
    text = (exported.bundle / "bundle.json").read_text()
    assert str(exported.data) not in text
    assert str(exported.runs[0].parent) not in text


def test_three_runs_make_a_bundle_with_all_graphs(exported_three: Exported) -> None:
    bundle = load_bundle(exported_three.bundle)
    assert bundle.adapters == ("identification", "defects")
    assert bundle.views == VIEWS
    assert {"fusion", "defects_sequence", "regions"} <= set(bundle.graphs)
    values = exported_three.done["metrics"]["values"]
    assert "defects/sequence_mean_recall" in values
    assert "defects/sequence_multi_pick_recall" in values


def test_the_same_export_gives_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    again = tmp_path / "bundle"
    export(exported.order(again, variants=("int8",), max_loss=100.0))
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in exported.bundle.iterdir()
    }


def test_a_damaged_bundle_is_refused(exported: Exported, tmp_path: Path) -> None:
    for name in ("bundle.json", "rois.onnx", "backbone.int8.onnx"):
        folder = tmp_path / name
        shutil.copytree(exported.bundle, folder)
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[: len(raw) // 2])
        with pytest.raises(ModelFileError, match=name):
            load_bundle(folder)


def blind(model: onnx.ModelProto) -> onnx.ModelProto:
    """A variant that sees nothing: linear layers of zeros."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for one in out.graph.initializer:
        if one.name.endswith(".weight") and len(one.dims) > 1:
            zeros = np.zeros_like(numpy_helper.to_array(one))
            one.CopyFrom(numpy_helper.from_array(zeros, one.name))
    return out


def test_a_variant_that_loses_too_much_is_left_out_and_said(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    robollm: Callable[..., Said],
) -> None:
    monkeypatch.setattr(trial, "to_int8_dynamic", blind)
    out = tmp_path / "bundle"
    words = (*exported.runs, "--data", exported.data, "--out", out, "--threads", 1)
    said = robollm("export", *words, "--variants", "int8", "--json")
    assert said.code == 1  # nothing of what was asked for
    done = json.loads(said.out)
    assert done["accepted"] == ["fp32"]
    assert "REFUSED, not in the bundle: int8: identification/recall@1_container lost" in said.err
    card = card_of(out)
    assert set(card["variants"]) == {"fp32"}
    assert "points" in card["provenance"]["refused_variants"]["int8"]
    assert not list(out.glob("*int8*"))
    said = robollm("export", *words, "--variants", "fp32,int8")
    assert said.code == 0
    assert "REFUSED" in said.out


def test_loss_is_counted_in_points(exported: Exported) -> None:
    before = Verdict({"a": 0.5, "b": 0.25}, {})
    assert before.loss_of(Verdict({"a": 0.49, "b": 0.3}, {})) == {"a": 1.0, "b": -5.0}


def test_what_can_lose_nothing_is_not_accepted_for_that() -> None:
    good, poor = Verdict({"a": 0.5, "b": 0.4}, {}), Verdict({"a": 0.5, "b": 0.004}, {})
    nothing = Verdict({"a": 0.5, "b": 0.0}, {})
    assert refusal(good, good, 0.5) == ""
    assert refusal(good, nothing, 0.5).startswith("b lost 40 points, at most 0.5")
    assert refusal(poor, nothing, 0.5).startswith("b of fp32 is 0.0040: a variant that finds not")
    assert refusal(poor, nothing, 100.0) == ""  # asked for anything
    assert refusal(good, Verdict({"a": math.nan, "b": 0.4}, {}), 0.5).startswith("a lost nan")
    assert refusal(good, Verdict({"a": 0.5, "b": math.nan}, {}), 0.5).startswith("b lost nan")


def test_no_defect_may_be_missed_more_often_behind_a_better_mean() -> None:
    names = ("mean", "multi", "package")

    def verdict(mean: float, multi: float, package: float, cases: int = 400) -> Verdict:
        values = dict(zip(names, (mean, multi, package), strict=True))
        return Verdict(values, {}, {"multi": 400, "package": cases})

    before = verdict(0.6, 0.7, 0.5)
    assert refusal(before, verdict(0.7, 0.9, 0.49), 0.5).startswith("package lost 1 points")
    assert refusal(before, verdict(0.6, 0.7, 0.4975), 0.5) == ""
    few = verdict(0.6, 0.7, 0.5, cases=50)
    assert refusal(few, verdict(0.6, 0.7, 0.48), 0.5) == "", "one sample of fifty"
    assert "at most 2 are allowed" in refusal(few, verdict(0.6, 0.7, 0.46), 0.5)
    blind = verdict(0.6, 0.7, 0.0)  # fp32 finds none: nothing can be lost, and the card shows it
    assert refusal(blind, blind, 0.5) == ""


def test_a_split_without_a_defect_judges_no_variant() -> None:
    one = Verdict({"mean": 1.0}, {"defects": 9}, {"multi": 0, "package": 3})
    assert refusal(one, one, 0.5).startswith("no sample to measure multi on")
    assert refusal(one, one, 100.0) == ""  # asked for anything


def test_a_variant_that_fails_is_said_without_folders_and_in_good_json(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: onnx.ModelProto) -> onnx.ModelProto:
        out = onnx.ModelProto()
        out.CopyFrom(model)
        out.graph.node[0].op_type = "NoSuchOperator"
        return out

    monkeypatch.setattr(trial, "to_int8_dynamic", broken)
    done = export(exported.order(tmp_path / "a", variants=("int8",)))
    why = done["refused"]["int8"]
    assert "backbone.int8.onnx does not load" in why
    assert str(tmp_path) not in why
    assert ".part" not in why
    tried = trial.Tried(name="int8", distances=Distances({"rois.boxes": math.inf}))
    assert json.dumps(tried.card()["parity"], allow_nan=False) == '{"rois.boxes": null}'


def test_a_detector_that_finds_nothing_was_not_compared(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: Any, **__: Any) -> Distances:
        return Distances(counts={"totes": 3, "crops": 9, "instances": 0})

    monkeypatch.setattr(trial, "compare", nothing)
    with pytest.raises(ConfigError, match="finds nothing on 3 totes"):
        export(exported.order(tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


def test_judging_on_a_part_takes_a_part(exported: Exported) -> None:
    data = SplitData(collect(exported.runs), exported.data, "test", totes=1, picks=4)
    assert data.sizes == {"segmentation": 1, "identification": 4, "defects": 4}
    verdict = Judge(data, collect(exported.runs)).measure(served(exported.bundle), "x")
    assert verdict.samples == data.sizes


def test_unknown_and_unmeasurable_variants_are_refused_at_once(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no variant 'int4'"):
        export(exported.order(tmp_path / "b", variants=("fp32", "int4")))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, p=None: None if n == "openvino" else find(n, p)
    )
    with pytest.raises(ConfigError, match="OpenVINO, which this Python lacks"):
        export(exported.order(tmp_path / "b", variants=("bf16",)))
    assert list(tmp_path.iterdir()) == []


def test_baked_adapters_of_several_tasks_are_refused(
    exported_three: Exported, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="store the encoder once per task"):
        export(exported_three.order(tmp_path / "b", adapters="baked"))


def test_a_folder_that_is_no_bundle_is_not_touched(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ModelFileError, match="not overwritten"):
        export(exported.order(tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_thresholds_of_a_file_take_the_place_of_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text(json.dumps({"identification": {"accept": 0.7}}))
    found, digest = load_thresholds(file)
    assert found["identification"] == {**DEFAULT_THRESHOLDS["identification"], "accept": 0.7}
    assert found["defects"] == DEFAULT_THRESHOLDS["defects"]
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not readable JSON"),
        ("[]", "no object of objects"),
        ('{"identification": {"accuracy": 1}}', r"no threshold identification\.accuracy"),
        ('{"speed": {}}', "no threshold speed"),
        ('{"defects": {"temperature": 0}}', "want 0.0001 to 1000"),
        ('{"segmentation": {"score_min": "high"}}', "high"),
    ],
)
def test_thresholds_that_are_none_are_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_thresholds(file)
