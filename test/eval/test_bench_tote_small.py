"""bench/tote_small.py: what it runs, what it keeps, and the figures that eval has for it."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from click.testing import CliRunner
from in_process import answered, predict_here
from tiny_armbench import picture, write_defects, write_picks, write_totes

from robollm.cli.eval import ending
from robollm.cli.main import app
from robollm.data import armbench_identification
from robollm.eval import armbench
from robollm.eval.score import score


@pytest.fixture
def bench(pytestconfig, monkeypatch):
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath / "bench"))
    module = importlib.import_module("tote_small")
    # In this process, without a bundle or a report: what is tested is what becomes of it.
    monkeypatch.setattr(armbench, "predict", predict_here)
    monkeypatch.setattr(armbench, "BASELINES", ("colour-histogram",))
    monkeypatch.setattr(ending, "_report", lambda run, *_: run.path)
    monkeypatch.setattr(module, "under_load", lambda said, kept: in_process(said))
    told = {
        "default": "robollm eval armbench DATA --references split --predictor oracle --baselines",
        "chance": module.COMMANDS["chance"],
    }
    monkeypatch.setattr(module, "COMMANDS", told)
    return module


def in_process(said):
    result = CliRunner().invoke(app, [*said[1:], "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return {"others_cores": 0.0}


def measured(bench, monkeypatch, tmp_path, *more):
    out = tmp_path / "tote_small.json"
    words = ["--runs", tmp_path / "runs", "--out", out, "--draws", 100, *more]
    monkeypatch.setattr(sys, "argv", ["tote_small.py", *map(str, words)])
    assert bench.main() == 0
    return out


def test_two_sets_become_figures_and_their_gap_and_again_the_same(bench, monkeypatch, tmp_path):
    gl, cycles = tmp_path / "gl", tmp_path / "cycles"
    for data, picks in ((gl, 4), (cycles, 3)):
        write_totes(data, images=picks, subsets=("mix-object-tote",))
        write_picks(data, count=picks)
    out = measured(bench, monkeypatch, tmp_path, "--gl", gl, "--cycles", cycles)
    text = out.read_text()
    card = json.loads(text)
    assert str(tmp_path) not in text, "no path of this machine"
    runs = card["sets"]["gl"]["runs"]
    assert list(runs) == ["default", "chance"]
    assert set(runs["chance"]["sections"]) == {"segmentation/mix-object-tote"}
    assert "colour-histogram" in runs["default"]["baselines"]
    beside = card["sets"]["cycles"]["runs"]
    assert (list(beside), beside["default"]["baselines"]) == (["default"], {})
    assert card["command"].endswith("--gl GL --cycles CYCLES --draws 100")
    figures = {name: section["figures"] for name, section in runs["default"]["sections"].items()}
    assert figures["identification"]["recall@1_all_product_n1"][0] == 1
    assert figures["identification"]["unknown_rejected_at_fr0.05_n3"][0] == 1
    assert figures["segmentation/mix-object-tote"]["object_only_mask_mAP50_1-5"] == [
        1.0, pytest.approx(0.025 ** (1 / 4), abs=1e-5), 1.0, 4,
    ]  # fmt: skip
    assert figures["segmentation/mix-object-tote"]["object_only_mask_mAP50_13+"] == [
        None, None, None, 0,
    ]  # fmt: skip
    assert "class_agnostic_mask_mAP50_26+" not in figures["segmentation/mix-object-tote"]
    assert runs["default"]["manifests"] == {"least": 4, "median": 4, "most": 4}
    assert card["sets"]["cycles"]["data"]["samples"]["identification"] == 3
    gap = card["gap"]["identification"]["recall@1_container_product_n1"]
    low, high = 0.025 ** (1 / 4) - 1, 1 - 0.025 ** (1 / 3)  # what four and three of all leave open
    assert gap == [0.0, pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5), 1.0]
    assert "chance@1_container" not in card["gap"]["identification"]
    again = json.loads(measured(bench, monkeypatch, tmp_path, "--gl", gl).read_text())
    assert again["sets"] == {"gl": card["sets"]["gl"]}, "the same command goes on with its runs"


def test_without_cycles_there_is_one_set_and_no_gap(bench, monkeypatch, tmp_path):
    write_defects(tmp_path / "gl", inducts=3)
    out = measured(bench, monkeypatch, tmp_path, "--gl", tmp_path / "gl", "--limit", 3)
    card = json.loads(out.read_text())
    assert (list(card["sets"]), card["gap"], card["limit"]) == (["gl"], {}, 3)
    assert "asked for at most 3" in card["sets"]["gl"]["runs"]["default"]["partial"][0]
    assert "manifests" not in card["sets"]["gl"]["runs"]["default"]


def test_the_time_of_the_demo_is_that_of_picks_all_of_whose_views_came(bench, tmp_path):
    def pick(views, ms):
        return {"views": {view: [] for view in views}, "event_ms": ms}

    sha256 = "0123456789ab" + 52 * "f"
    title = "tote-small 1.0 (0123456789ab)"
    card = {"bundle": title, "trained": True, "views_expected": 2, "picks": [
        pick("ab", 90.0), pick("a", 1700.0), pick("ab", 110.0), pick("ab", 250.04),
        pick("ab", None),
    ]}  # fmt: skip
    report = tmp_path / "report.json"
    report.write_text(json.dumps(card))
    assert bench.demo(report, sha256) == {
        "bundle": title, "trained": True, "picks": 5, "timed": 3, "median_ms": 110.0,
        "worst_ms": 250.0,
    }  # fmt: skip
    report.write_text(json.dumps({**card, "picks": [pick("a", 1700.0)]}))
    with pytest.raises(SystemExit, match="no pick with all of its views"):
        bench.demo(report, sha256)
    with pytest.raises(SystemExit, match="run `make demo` again"):
        bench.demo(report, 64 * "e")


def test_runs_that_bring_nothing_new_are_left_out(bench):
    every = frozenset({"segmentation", "identification", "defects"})

    def left(name, tasks, precision):
        done = {"default": {"predictor": {"precision": precision}}}
        runs = ("default", "chance", "fp32", "picks")
        return [run for run in runs if bench.wanted(run, name, tasks, done)]

    assert left("gl", every, "int8") == ["default", "chance", "fp32", "picks"]
    assert left("gl", every, "fp32") == ["default", "chance", "picks"]
    assert left("cycles", every, "int8") == ["default", "picks"]
    assert left("gl", frozenset({"defects"}), "fp32") == ["default"]


def test_a_bundle_is_judged_at_its_own_thresholds_too(monkeypatch, tmp_path, sketch_bundle):
    write_defects(tmp_path / "data", inducts=6)
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run", "bundle", bundle=sketch_bundle)
    limits = run.card["predictor"]["defect_thresholds"]
    assert set(limits) == {"multi_pick", "package_defect"}
    (section,) = score(run, draws=20).sections
    assert section.figures["verdict_combined_recall"].cases > 0
    assert f"at the bundle's thresholds multi_pick {limits['multi_pick']:g}" in section.protocol
    others = answered(monkeypatch, tmp_path / "data", tmp_path / "other")
    assert not any(n.startswith("verdict") for n in score(others, draws=20).sections[0].figures)


@pytest.mark.parametrize(("references", "products"), [("all", 7), ("split", 6), ("manifests", 5)])
def test_references_are_all_or_of_the_split_or_of_the_containers(
    monkeypatch, tmp_path, references, products
):
    write_picks(tmp_path / "data", products=6, count=2, manifest=4)
    root = tmp_path / "data" / armbench_identification.ROOT
    armbench_identification.write_references(root, "elsewhere", [picture(9)])
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run", references=references)
    (section,) = score(run, draws=20).sections
    assert section.counts["products_with_references"] == products


def test_a_run_can_be_left_out_and_the_command_says_so(bench, monkeypatch, tmp_path):
    write_totes(tmp_path / "gl", images=3, subsets=("mix-object-tote",))
    out = measured(bench, monkeypatch, tmp_path, "--gl", tmp_path / "gl", "--without", "chance")
    card = json.loads(out.read_text())
    assert list(card["sets"]["gl"]["runs"]) == list(card["commands"]) == ["default"]
    assert "--without chance" in card["command"]


def test_baselines_of_the_same_pictures_are_kept_where_they_cannot_be_measured(bench):
    def results(digest, **baselines):
        return {"data": {"digest": digest}, "runs": {"default": {"baselines": baselines}}}

    old = results(
        "d", majority={"defects": {"samples": 3}}, colour={"identification": {"samples": 1}}
    )
    new = results("d", colour={"identification": {"samples": 2}})
    bench.keep_baselines(new, old)
    assert new == results(
        "d",
        colour={"identification": {"samples": 2}},
        majority={"defects": {"samples": 3, "kept": True}},
    )
    other = results("e")
    bench.keep_baselines(other, old)
    bench.keep_baselines(other, {})
    assert other == results("e")
