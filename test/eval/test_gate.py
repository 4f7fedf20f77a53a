"""The regression gate: what is as good passes, what is damaged fails, nothing passes in silence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil

import pytest
from gate_kit import (
    DRAWS,
    TOOLS,
    evaluate_here,
    tool,
    with_equal_weights,
    with_thresholds,
    write_easy,
)

from robollm.core.errors import ConfigError, EvalError
from robollm.eval.compare import PASSED, REGRESSED, UNDECIDED
from robollm.eval.run_folder import RunFolder
from robollm.runtime.default_bundle import default_bundle

gate, accepted = tool("gate"), tool("gate_accepted")
LOW, HIGH = 0.02, 0.98  # thresholds: everything is a defect, nothing is


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gate, "evaluate", evaluate_here(monkeypatch))
    monkeypatch.setattr(gate, "QUESTION", dataclasses.replace(gate.QUESTION, draws=DRAWS))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, sketch_bundle):
    """A checkout with a bundle, a test set and an accepted run."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(sketch_bundle, root / "bundle")
    with_thresholds(root / "bundle", LOW)
    write_easy(root / "gate" / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "evaluate", evaluate_here(patch))
        assert gate.accept(order(root)) == PASSED
    return root


@pytest.fixture
def copy(checkout, tmp_path):
    """The same, to be changed."""
    shutil.copytree(checkout, tmp_path / "mine")
    return tmp_path / "mine"


def order(root):
    return gate.Order(root / "bundle", root / "gate", root / "out", 1, root)


def verdicts(text):
    """(section, figure) -> verdict, out of the printed table."""
    head, *lines = text.splitlines()
    place = head.index("verdict")
    rows = [line for line in lines if line.startswith(("identification ", "defects "))]
    return {tuple(row.split()[:2]): row[place:] for row in rows if len(row) > place}


def test_the_accepted_bundle_passes_with_no_difference_at_all(copy, capsys):
    assert gate.check(order(copy)) == PASSED
    text = capsys.readouterr().out
    told = verdicts(text)
    assert set(told.values()) == {"same"}
    assert {figure for _, figure in told} == {
        f for f in accepted.FIGURES if "mAP" not in f
    }  # no totes in this data
    assert text.count("+0.0000 to +0.0000") == len(told)
    assert text.endswith("gate: passed\n")


def test_damaged_weights_fail_and_the_figures_are_named(copy, capsys):
    with_equal_weights(copy / "bundle")
    assert gate.check(order(copy)) == REGRESSED
    text = capsys.readouterr().out
    told = verdicts(text)
    assert told["identification", "recall@1_container_product_n1"].startswith("WORSE, BEYOND")
    assert told["defects", "verdict_combined_recall"] == "same"
    assert "other bundle: " in text
    assert "gate: FAILED" in text


def test_a_moved_threshold_fails_though_no_score_has_changed(copy, capsys):
    with_thresholds(copy / "bundle", HIGH)
    assert gate.check(order(copy)) == REGRESSED
    told = verdicts(capsys.readouterr().out)
    assert told["defects", "verdict_combined_recall"].startswith("WORSE, BEYOND ITS LIMIT")
    assert told["defects", "verdict_combined_fpr"] == "better"
    assert told["defects", "image_multi_pick_auc"] == "same"


def test_another_bundle_that_is_as_good_is_not_decided_until_a_person_accepts_it(copy, capsys):
    card = json.loads((copy / "bundle" / "bundle.json").read_text())
    card["name"] = "other"
    (copy / "bundle" / "bundle.json").write_text(json.dumps(card))
    assert gate.check(order(copy)) == UNDECIDED
    assert "other bundle: other " in capsys.readouterr().out
    assert gate.accept(order(copy)) == PASSED
    assert gate.check(order(copy)) == PASSED


def test_a_changed_test_set_is_refused_before_anything_is_run(copy, monkeypatch):
    monkeypatch.setattr(gate, "evaluate", None)
    next((copy / "gate" / "data").rglob("*.jpg")).write_bytes(b"other")
    with pytest.raises(ConfigError, match="is not what was accepted"):
        gate.check(order(copy))
    (copy / "gate" / "floors.json").unlink()
    with pytest.raises(ConfigError, match="no accepted run"):
        gate.check(order(copy))
    shutil.rmtree(copy / "gate" / "data")
    with pytest.raises(ConfigError, match="there is no test set"):
        accepted.digest_of(copy / "gate" / "data")


def test_what_is_below_its_floor_is_accepted_only_when_that_is_asked_for(copy, capsys):
    before = (copy / "gate" / "floors.json").read_bytes()
    with_thresholds(copy / "bundle", HIGH)
    assert gate.accept(order(copy)) == REGRESSED
    assert "not accepted" in capsys.readouterr().out
    assert (copy / "gate" / "floors.json").read_bytes() == before
    assert gate.accept(order(copy), new_floors=True) == PASSED
    assert gate.check(order(copy)) == PASSED


def test_floors_are_the_intervals_ends_and_never_get_easier(checkout):
    from robollm.eval.figures import Metrics

    metrics = Metrics.read(checkout / "gate" / "baseline")
    name, ceiling = ("identification", "auroc_n1"), ("defects", "verdict_combined_fpr")
    floors = accepted.floors_of(metrics, {})
    figures = {s.name: s.figures for s in metrics.sections}
    assert floors[name].limit == figures[name[0]][name[1]].low
    assert floors[ceiling].limit == figures[ceiling[0]][ceiling[1]].high
    strict = {name: accepted.Floor(1.0, 2.0), ceiling: accepted.Floor(0.0, -2.0)}
    kept = accepted.floors_of(metrics, strict)
    assert (kept[name].limit, kept[ceiling].limit) == (2.0, -2.0)
    easy = {name: accepted.Floor(0.0, -2.0), ceiling: accepted.Floor(1.0, 2.0)}
    assert accepted.floors_of(metrics, easy) == floors


def test_a_floor_is_broken_from_its_own_side():
    floor = accepted.Floor(0.9, 0.8)
    assert [floor.broken("auroc_n1", v) for v in (0.79, 0.8, 0.9)] == [True, False, False]
    ceiling = accepted.Floor(0.1, 0.2)
    assert [ceiling.broken("image_fpr", v) for v in (0.21, 0.2, 0.0)] == [True, False, False]
    assert not floor.broken("auroc_n1", math.nan)  # what is missing, `compare` says


def test_the_baseline_names_no_place_and_is_small(checkout):
    files = sorted(p.name for p in (checkout / "gate" / "baseline").iterdir())
    assert files == ["metrics.json", "run.json", "run.zip"]
    card = (checkout / "gate" / "baseline" / "run.json").read_text()
    assert str(checkout) not in card
    assert json.loads(card)["predictor"]["bundle"] == "bundle"
    assert sum(p.stat().st_size for p in (checkout / "gate" / "baseline").iterdir()) < 300_000


def test_a_bundle_from_elsewhere_and_a_damaged_baseline_are_refused(copy, sketch_bundle):
    with pytest.raises(ConfigError, match="nobody else would have it"):
        gate.accept(order(copy)._replace(bundle=sketch_bundle))
    (copy / "gate" / "baseline" / "run.zip").write_bytes(b"PK")
    with pytest.raises(ConfigError, match="missing or damaged"):
        gate.check(order(copy))
    (copy / "gate" / "floors.json").write_text('{"format": "robollm-gate"}')
    with pytest.raises(ConfigError, match="is damaged"):
        gate.check(order(copy))


def test_a_folder_that_is_no_run_is_not_swept(copy):
    (copy / "out" / "baseline").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(copy / "out" / "baseline")
    (copy / "out" / "baseline").mkdir()
    (copy / "out" / "baseline" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is no run"):
        gate.check(order(copy))
    assert (copy / "out" / "baseline" / "letter.txt").exists()


def test_without_the_shipped_bundle_it_ends_with_a_fix_and_code_2(monkeypatch, capsys):
    monkeypatch.setattr(gate, "default_bundle", lambda: default_bundle(()))
    assert gate.main([]) == UNDECIDED
    words = capsys.readouterr().err
    assert words.startswith("error: no bundle is named")
    assert "fix: " in words


def test_the_gate_asks_the_same_command_as_a_user(copy, monkeypatch):
    monkeypatch.undo()
    asked = []

    class Done:
        returncode = 2

    monkeypatch.setattr(
        gate.subprocess, "run", lambda words, **more: asked.append((words, more)) or Done
    )
    with pytest.raises(EvalError, match="ended with exit code 2"):
        gate.evaluate(order(copy))
    ((words, more),) = asked
    assert words[3:] == ["eval", "armbench", "gate/data", "--out", "out/run", "--bundle", "bundle",
                         "--workers", "1", "--json", "--no-report"]  # fmt: skip
    assert more["cwd"] == copy


def test_that_command_takes_these_words_also_with_a_process_per_core(copy, monkeypatch):
    from robollm.cli.eval.armbench import command

    monkeypatch.undo()
    asked = []

    class Done:
        returncode = 2

    monkeypatch.setattr(gate.subprocess, "run", lambda words, **_: asked.append(words) or Done)
    for workers in (gate.Order._field_defaults["workers"], 2):
        with pytest.raises(EvalError, match="ended with exit code 2"):
            gate.evaluate(order(copy)._replace(workers=workers), "--draws", "100")
        with command.make_context("armbench", asked[-1][5:]) as context:
            assert context.params["workers"] == workers
            assert (context.params["draws"], context.params["report"]) == (100, False)


def test_a_floor_of_what_is_not_measured_any_more_does_not_vanish_unsaid(copy, capsys, monkeypatch):
    gone = ("identification", "recall@1_container_product_n3")
    read, before = gate.Metrics.read, (copy / "gate" / "floors.json").read_bytes()

    def without(run):
        found = read(run)
        sections = [
            dataclasses.replace(s, figures={k: v for k, v in s.figures.items() if k != gone[1]})
            for s in found.sections
        ]
        return dataclasses.replace(found, sections=tuple(sections))

    monkeypatch.setattr(gate.Metrics, "read", without)
    assert gate.accept(order(copy)) == REGRESSED
    assert f"says nothing of {' '.join(gone)}" in capsys.readouterr().out
    assert (copy / "gate" / "floors.json").read_bytes() == before


def test_a_baseline_of_another_bundle_than_the_floors_is_refused(copy):
    card = copy / "gate" / "baseline" / "run.json"
    text = json.loads(card.read_text())
    text["predictor"]["sha256"] = "ab" * 32  # as if accepting had been killed before the floors
    card.write_text(json.dumps(text))
    with pytest.raises(ConfigError, match="its floors are of"):
        gate.check(order(copy))


def test_what_is_committed_belongs_together():
    root = TOOLS.parent
    found = accepted.read_accepted(root / "gate")
    bundle = root / "models" / "tote-small" / "bundle.json"
    if found is None and not bundle.is_file():
        pytest.skip("no bundle is shipped yet")
    assert found is not None, "make gate-accept"
    assert found.bundle["sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert found.data == accepted.digest_of(root / "gate" / "data")
    assert RunFolder.open(root / "gate" / "baseline").card["complete"]
    size = sum(p.stat().st_size for p in (root / "gate").rglob("*") if p.is_file())
    assert size < 10_000_000
