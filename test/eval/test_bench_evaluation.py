"""bench/evaluation.py says of which bundle and data its numbers are; the README says which rate."""

from __future__ import annotations

import importlib
import json

import pytest
from tiny_armbench import write_picks

from robollm.data.problems import Problems
from robollm.eval.folder_picks import PERIOD_NS
from robollm.eval.make_bag import make_bag
from robollm.eval.run_folder import RunFolder


@pytest.fixture
def bench(pytestconfig, monkeypatch):
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath / "bench"))
    return importlib.import_module("evaluation")


@pytest.fixture
def rows(pytestconfig, monkeypatch):
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath / "tools"))
    return importlib.import_module("results_evaluation")


@pytest.fixture
def card(pytestconfig):
    return json.loads((pytestconfig.rootpath / "results" / "evaluation.json").read_text())


def test_a_case_names_its_data_and_bundle_with_their_digests(bench, tmp_path):
    data = {"root": "there", "name": "d", "kind": "simulated", "split": "all", "digest": "ab" * 32}
    made = {"bundle_name": "b", "version": "1.0", "sha256": "cd" * 32, "name": "bundle"}
    card = {"source": "folder", "data": data, "predictor": made, "settings": {}}
    with RunFolder.create_or_resume(tmp_path / "run", card):
        pass
    assert bench.asked(tmp_path / "run") == {
        "data": {"name": "d", "kind": "simulated", "split": "all", "digest": "ab" * 32},
        "bundle": {"name": "b", "version": "1.0", "sha256": "cd" * 32},
    }


def test_the_bag_s_duration_is_from_its_first_to_its_last_message(bench, tmp_path):
    write_picks(tmp_path / "data", count=5)
    bag = make_bag(tmp_path / "data", tmp_path / "made", Problems()).bag
    assert bench.bag_seconds(bag) == pytest.approx(4 * PERIOD_NS / 1e9, abs=1)


def test_the_rate_of_the_row_is_that_of_the_whole_command(rows, card):
    said = rows.speed(card)
    for name in ("folders", "bag", "ros"):
        one = card["cases"][name]
        assert f"{one['pictures_per_second']:g} pictures/s" in said
        assert f"(steady: {one['steady_pictures_per_second']:g}, on" in said


def test_the_row_says_bundle_data_and_the_bag_s_length(rows, card):
    told = {"name": "b", "version": "1.0", "sha256": "cd" * 32}
    run = {**rows.run_of(card, "folders"), "bundle": told, "bag_seconds": 1199.5}
    data = {"name": "d", "digest": "ab" * 32}
    case = {**card["cases"]["folders"], "data": data, "run": run}
    said = rows.conditions({**card, "cases": {**card["cases"], "folders": case}})
    assert f"bundle b 1.0 (cdcdcdcdcdcd), {case['precision']};" in said
    assert "data d, digest abababababab" in said
    assert "a bag of 1200 s" in said
