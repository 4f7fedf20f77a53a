"""A bundle's model card: whole, small, without a word about this machine's folders."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import report_kit

from robollm.core.errors import ConfigError, EvalError, ModelFileError
from robollm.data.jpeg import decode
from robollm.eval.model_card import pictures
from robollm.eval.model_card.sources import bare, record, train_runs
from robollm.eval.model_card.write import write_card
from robollm.eval.report.outlines import box_path
from robollm.runtime.bundle import load_bundle

HEADINGS = (
    "Model details", "Intended use and limits", "Metrics", "Evaluation and training data",
    "Training", "Quantitative analyses", "Known failures", "Ethical considerations", "Files",
)  # fmt: skip


@pytest.fixture
def bundle(sketch_bundle, tmp_path):
    return shutil.copytree(sketch_bundle, tmp_path / "bundle")


@pytest.fixture
def measured(bundle, tmp_path, monkeypatch):
    """An evaluation of that bundle, with pictures of its own."""
    known = load_bundle(bundle, allow_untrained=True)
    monkeypatch.setitem(report_kit.CARD, "embedding_sha256", known.embedding_sha256)
    predictor = {**report_kit.CARD["predictor"], "sha256": known.sha256}
    monkeypatch.setitem(report_kit.CARD, "predictor", predictor)
    run = report_kit.make_run(tmp_path / "eval")
    report_kit.make_metrics().write(run.path)
    return run.path


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "det"
    folder.mkdir()
    start = {
        "command": f"robollm train segmentation --data {tmp_path}/ds8 --out {folder} --set a.b=1",
        "processes": 1, "threads": 1, "python": "3.11", "packages": {"torch": "2.13"},
    }  # fmt: skip
    card = {"task": "segmentation", "seed": 3, "parameters": 9_400_000, "robollm": "0.1.0",
            "samples": {"train": 4938}, "starts": [start, start]}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(card))
    rows = [{"step": 100 * k, "segmentation/loss": 4 / k, "seconds_per_step": 1.8}
            for k in range(1, 5)]  # fmt: skip
    rows.append({"step": 400, "val/segmentation/object_only_mask_mAP50": 0.4, "val/x": None})
    lines = [json.dumps(row) for row in rows]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 5')  # killed
    return folder


@pytest.fixture
def data_card(tmp_path):
    folder = tmp_path / "ds8"
    folder.mkdir()
    card = {
        "format": "robollm-dataset",
        "settings": {"seed": 81, "renderer": "mujoco"},
        "command": f"robollm sim dataset --out {folder} --seed 81",
        "segmentation": {"images": {"mix/train": 10, "mix/test": 3, "zoomed/test": 2}},
        "picks": {"events": {"train/open": 4, "train/nominal": 5, "val/open": 1}},
        "catalogue": {"train": {"products": 216}, "test": {"products": 101}},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder / "card.json"


def test_a_card_tells_everything_that_it_was_given(bundle, measured, trained, data_card, tmp_path):
    before = load_bundle(bundle, allow_untrained=True)
    done = write_card(bundle, runs=[trained], evals=[measured], data_cards=[data_card])
    words = done.path.read_text()
    assert [h for h in HEADINGS if f"\n## {h}\n" not in words] == []
    assert "| det | segmentation | 400 | 0.20 | 3 | 9.4 | 4,938 | 1x1 | 2 |" in words
    assert "| ds8 | 81 | mujoco | 10 / 0 / 5 | 9 / 1 / 0 | 216 / 0 / 101 |" in words
    assert "| object_only_mask_mAP50 | 0.530 (0.480 to 0.580) |" in words
    assert "All its data is simulated" in words
    assert "Its weights are random" in words
    assert "not calibrated" in words
    assert str(tmp_path) not in words
    assert re.search(r"(?<![\w.])/\w", words) is None
    named = set(re.findall(r"\]\((card/[^)]+)\)", words))
    there = {f"card/{p.name}" for p in (bundle / "card").iterdir()}
    assert named == there
    assert len(there) == done.pictures == 7
    assert done.bytes == sum(p.stat().st_size for p in (bundle / "card").iterdir()) < 600_000
    after = load_bundle(bundle, allow_untrained=True)
    assert (after.sha256, after.embedding_sha256) == (before.sha256, before.embedding_sha256)


def test_failures_come_from_all_tasks_and_never_from_samples_without_an_answer(
    bundle, measured, tmp_path
):
    done = write_card(bundle, evals=[measured], failures=4)
    names = sorted(p.name for p in (bundle / "card").iterdir())
    kinds = [n.split("_")[2].removesuffix(".jpg") for n in names]
    assert kinds == ["segmentation", "identification", "defects", "station"]
    words = done.path.read_text()
    assert "No answer" not in words
    assert report_kit.EVIL not in words  # nobody's name becomes markup
    shutil.rmtree(tmp_path / "eval" / "data")
    again = write_card(bundle, evals=[measured], failures=4)
    assert again.pictures == 0
    assert again.unread > 0
    assert again.path.read_text().count("could not be read") >= 3
    assert not (bundle / "card").exists()


def test_the_same_inputs_give_the_same_bytes(bundle, measured, trained):
    def all_bytes():
        write_card(bundle, runs=[trained], evals=[measured])
        files = [bundle / "card.md", *sorted((bundle / "card").iterdir())]
        return {f.name: f.read_bytes() for f in files}

    assert all_bytes() == all_bytes()


def test_runs_of_other_weights_and_folders_of_something_else_are_refused(
    bundle, measured, trained, tmp_path
):
    card = json.loads((measured / "run.json").read_text())
    (measured / "run.json").write_text(json.dumps({**card, "embedding_sha256": "0" * 64}))
    with pytest.raises(EvalError, match="whose weights are not those"):
        write_card(bundle, evals=[measured])
    with pytest.raises(EvalError, match="no run of training"):
        write_card(bundle, runs=[measured])
    with pytest.raises(EvalError, match="can't be read"):
        write_card(bundle, runs=[tmp_path])
    (bundle / "card").mkdir()
    (bundle / "card" / "thesis.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"holds thesis\.txt"):
        write_card(bundle, runs=[trained])
    assert not (bundle / "card.md").exists()


def test_a_run_of_before_the_calibration_is_marked(bundle, measured):
    card = json.loads((bundle / "bundle.json").read_text())
    card["provenance"]["thresholds"] = {"calibrated_from": report_kit.CARD["predictor"]["sha256"]}
    (bundle / "bundle.json").write_text(json.dumps(card))
    words = write_card(bundle, evals=[measured]).path.read_text()
    assert "with this bundle before its thresholds were calibrated" in words


def test_values_whose_record_is_gone_are_not_called_uncalibrated(bundle):
    card = json.loads((bundle / "bundle.json").read_text())
    card["provenance"]["thresholds"] = {"calibrated": True, "sha256": "ab" * 32}
    (bundle / "bundle.json").write_text(json.dumps(card))
    words = write_card(bundle).path.read_text()
    assert "not calibrated on data" not in words
    assert "`calibration.json` is not in the folder" in words


def test_how_views_are_joined_stands_among_the_decision_values(bundle):
    card = json.loads((bundle / "bundle.json").read_text())
    card["thresholds"]["over_views"] = {"multi_pick": "mean", "package_defect": "any"}
    (bundle / "bundle.json").write_text(json.dumps(card))
    write_card(bundle)
    words = (bundle / "card.md").read_text()
    assert re.search(r"\| over_views\.multi_pick +\| +mean \|", words)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("--data /tmp/ds8 --out ../runs/det1", "--data ds8 --out det1"),
        ("--set a=/x/y.txt", "--set a=y.txt"),
        ("540 / 108 / 252, and/or, 4.5/s, models/tote-small", None),
        ("see https://example.org/a/b and card/x.png", None),
        ("'~/data/ds8'", "'ds8'"),
    ],
)
def test_of_a_path_its_last_part_stays(text, wanted):
    assert bare(text) == (wanted or text)


def test_pictures_that_are_too_much_shrink_until_they_fit_or_are_refused():
    rng = np.random.default_rng(0)
    strips = [rng.integers(0, 256, (240, 600, 3), np.uint8) for _ in range(3)]
    whole = sum(map(len, pictures.packed(strips, 10**9)))
    some = pictures.packed(strips, whole // 6)
    assert sum(map(len, some)) <= whole // 6
    assert decode(some[0]).shape[1] < 600
    with pytest.raises(ConfigError, match="don't fit"):
        pictures.packed(strips, 1000)


def test_an_outline_s_path_becomes_the_polygons_that_the_page_draws():
    assert [p.tolist() for p in pictures.polygons("M1 2L3 4.5L5 6ZM7 8L9 9L1 1Z")] == [
        [[1, 2], [3, 4.5], [5, 6]],
        [[7, 8], [9, 9], [1, 1]],
    ]
    (box,) = pictures.polygons(box_path((1, 2, 30, 40), 0.5))
    assert box.tolist() == [[0.5, 1], [15, 1], [15, 20], [0.5, 20]]


def test_hours_are_those_of_the_steps(trained):
    (run,) = train_runs([trained])
    assert run.hours == pytest.approx(400 * 1.8 / 3600)
    assert len(run.commands) == 1


def test_the_record_of_a_run_makes_the_same_card_as_its_folder(bundle, trained, tmp_path):
    (run,) = train_runs([trained])
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps([record(run)]))
    (again,) = train_runs([kept])
    assert record(again) == record(run)
    cards = []
    for source in (trained, kept):
        write_card(bundle, runs=(source,))
        assert (bundle / "card" / "learning_curves.png").is_file()
        cards.append((bundle / "card.md").read_text())
    assert cards[0] == cards[1]
    assert "| det | segmentation | 400 | 0.20 | 3 | 9.4 | 4,938 | 1x1 | 2 |" in cards[0]
    assert str(tmp_path) not in kept.read_text()


@pytest.mark.parametrize("text", ["{", "{}", '[{"run": "det"}]', "[3]"])
def test_a_file_that_is_no_record_of_runs_is_refused(bundle, tmp_path, text):
    (tmp_path / "kept.json").write_text(text)
    with pytest.raises(EvalError, match=r"kept\.json is no record of training runs"):
        train_runs([tmp_path / "kept.json"])


def test_the_verb_says_where_the_card_is(bundle, trained, robollm):
    done = robollm("bundle", "card", bundle, "--runs", trained, "--json")
    assert done.code == 0
    assert json.loads(done.out)["pictures"] == 1
    assert (bundle / "card.md").is_file()
