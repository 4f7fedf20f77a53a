"""`robollm bundle calibrate`: from a run into the card, in one step, or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from calibration_kit import KINDS, QUICK, make_run
from tiny_armbench import write_defects

from robollm.core.errors import CalibrationError, ConfigError, EvalError, ModelFileError
from robollm.data.armbench_defects import IMAGE_ROOT, write_lists
from robollm.eval.run_folder import RunFolder
from robollm.eval.thresholds.calibrate import calibrate, write
from robollm.runtime.bundle import load_bundle


@pytest.fixture
def bundle(sketch_bundle, tmp_path):
    return shutil.copytree(sketch_bundle, tmp_path / "bundle")


def test_chosen_values_stand_in_the_card_with_where_they_come_from(bundle, tmp_path):
    before = load_bundle(bundle, allow_untrained=True)
    record = calibrate(make_run(tmp_path / "run", bundle), bundle, QUICK)
    sha256 = write(bundle, record)
    after = load_bundle(bundle, allow_untrained=True)
    assert (after.sha256, after.embedding_sha256) == (sha256, before.embedding_sha256)
    assert after.sha256 != before.sha256
    known = after.provenance["thresholds"]
    assert known["calibrated"] is True
    assert (known["data"], known["split"]) == ("drawn", "val")
    assert known["calibrated_from"] == before.sha256
    t = after.thresholds
    assert 0.35 < t.score_min < 0.55
    assert t.mask_min == before.thresholds.mask_min
    assert 0.3 < t.accept < 0.95
    assert record["kept"] == {}
    held = record["identification"]["held_out"]
    assert held["unknown_rejected"]["value"] > 0.9
    assert held["unknown_rejected"]["low"] < held["unknown_rejected"]["value"]
    assert record["defects"]["on_all"]["multi_pick_recall"]["value"] > 0.95
    assert record["defects"]["inducts_by_class"] == dict.fromkeys(KINDS, 22)


def test_the_same_run_gives_the_same_bytes_also_a_second_time(bundle, tmp_path):
    run = make_run(tmp_path / "run", bundle)
    names = ("bundle.json", "calibration.json")
    write(bundle, calibrate(run, bundle, QUICK))
    first = [(bundle / n).read_bytes() for n in names]
    write(bundle, calibrate(run, bundle, QUICK))  # its card is another one by now
    assert [(bundle / n).read_bytes() for n in names] == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "run"]


def test_a_run_with_too_little_of_everything_chooses_nothing(bundle, tmp_path):
    run = make_run(tmp_path / "run", bundle, inducts=15, picks=10)
    for file in (run.path / "records").glob("segmentation*"):
        file.unlink()
    with pytest.raises(CalibrationError, match="the run chooses nothing"):
        calibrate(RunFolder.open(run.path), bundle, QUICK)


def test_defects_alone_can_be_chosen_and_the_rest_is_named_as_kept(bundle, tmp_path):
    run = make_run(tmp_path / "run", bundle, picks=10)
    for file in (run.path / "records").glob("segmentation*"):
        file.unlink()
    before = load_bundle(bundle, allow_untrained=True).thresholds
    record = calibrate(RunFolder.open(run.path), bundle, QUICK)
    assert record["kept"]["segmentation.score_min"] == "the run has no segmentation"
    assert "10 picks of 10 products" in record["kept"]["identification.accept"]
    assert any("identification stays" in line for line in record["loud"])
    write(bundle, record)
    after = load_bundle(bundle, allow_untrained=True).thresholds
    assert (after.score_min, after.accept) == (before.score_min, before.accept)
    assert after.defects != before.defects


def test_a_recall_that_costs_many_false_alarms_is_said_loudly_with_both_figures(bundle, tmp_path):
    run = make_run(tmp_path / "run", bundle, sharp=0.7)
    record = calibrate(run, bundle, replace(QUICK, recall=0.99, fpr_limit=0.0))
    loud = [line for line in record["loud"] if line.startswith("multi_pick: a recall of 1.000")]
    assert len(loud) == 1
    other = record["defects"]["at_fpr_limit"]["multi_pick"]
    assert other["fpr"] == 0
    assert f"within the limit the recall is {other['recall']:.3f}" in loud[0]


def test_the_test_split_another_bundle_s_run_and_an_unfinished_one_are_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match="'test' can't choose"):
        calibrate(make_run(tmp_path / "t", bundle, split="test"), bundle, QUICK)
    with pytest.raises(EvalError, match="not by"):
        calibrate(make_run(tmp_path / "o", bundle, sha256="ab" * 32), bundle, QUICK)
    run = make_run(tmp_path / "u", bundle)
    run.card |= {"complete": False, "reason": "interrupted"}
    with pytest.raises(EvalError, match="interrupted"):
        calibrate(run, bundle, QUICK)


def test_a_card_that_would_not_load_leaves_the_bundle_as_it_was(bundle, tmp_path):
    record = calibrate(make_run(tmp_path / "run", bundle), bundle, QUICK)
    record["thresholds"]["segmentation"]["score_min"] = 7.0
    before = (bundle / "bundle.json").read_bytes()
    with pytest.raises(ModelFileError, match="score_min"):
        write(bundle, record)
    assert (bundle / "bundle.json").read_bytes() == before
    assert not (bundle / "calibration.json").exists()


def test_a_bundle_that_became_another_one_meanwhile_keeps_its_own_values(bundle, tmp_path):
    run = make_run(tmp_path / "run", bundle)
    record = calibrate(run, bundle, QUICK)
    card = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**card, "name": "other"}))
    before = (bundle / "bundle.json").read_bytes()
    with pytest.raises(EvalError, match="the values were chosen for"):
        write(bundle, record)
    assert (bundle / "bundle.json").read_bytes() == before
    with pytest.raises(ModelFileError, match="fix: "):
        calibrate(run, tmp_path / "nowhere", QUICK)


def test_the_verb_prints_what_it_chose_and_a_dry_run_changes_nothing(bundle, tmp_path, robollm):
    run = make_run(tmp_path / "run", bundle)
    before = (bundle / "bundle.json").read_bytes()
    words = ("bundle", "calibrate", bundle, "--run", run.path, "--draws", 100)
    dry = robollm(*words, "--dry-run")
    assert dry.code == 0
    assert "segmentation.score_min" in dry.out
    assert "unknown_rejected" in dry.out
    assert "left as it is" in dry.err
    assert (bundle / "bundle.json").read_bytes() == before
    done = robollm(*words, "--json")
    assert json.loads(done.out)["sha256"] == load_bundle(bundle, allow_untrained=True).sha256
    shown = json.loads(robollm("bundle", bundle).out)
    assert shown == json.loads(robollm("bundle", "show", bundle).out)
    assert shown["thresholds"]["defects"] == json.loads(done.out)["thresholds"]["defects"]


def test_the_verb_wants_one_evaluation_and_never_the_test_split(bundle, tmp_path, robollm):
    for words, said in (
        ((), "want an evaluation"),
        (("--data", tmp_path, "--run", tmp_path), "want an evaluation"),
        (("--run", tmp_path, "--out", tmp_path), "want an evaluation"),
        (("--data", tmp_path, "--split", "test"), "'test' can't choose"),
        (("--run", tmp_path), "holds no run"),
        (("--run", tmp_path, "--recall", "1"), "1.0 is not in the range"),
    ):
        wrong = robollm("bundle", "calibrate", bundle, *words)
        assert wrong.code == 2
        assert said in wrong.err


def test_the_verb_evaluates_first_and_keeps_that_where_it_is_told_to(bundle, tmp_path, robollm):
    data = tmp_path / "data"
    write_defects(data, inducts=36)
    inducts = [f"{i:021}" for i in range(36)]
    write_lists(data / IMAGE_ROOT, {"train": [], "val": inducts, "test": []})
    words = ("bundle", "calibrate", bundle, "--data", data, "--draws", 100)
    done = robollm(*words, "--out", tmp_path / "run", "--dry-run", "--json")
    assert done.code == 0
    record = json.loads(done.out)
    assert record["data"]["split"] == "val"
    assert record["defects"]["images"] == 72
    assert "the run has no picks" in record["kept"]["identification.accept"]
    again = robollm(
        "bundle", "calibrate", bundle, "--run", tmp_path / "run", "--draws", 100, "--json"
    )
    assert {**json.loads(again.out), "sha256": ""} == record
