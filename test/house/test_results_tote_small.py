"""The default bundle's numbers in README.md and docs are those of results/tote_small.json."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Card = dict[str, Any]
MIX, MASK = "segmentation/mix-object-tote", "object_only_mask_mAP50"


@pytest.fixture
def tool(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "tools"))
    return importlib.import_module("results_tote_small")


@pytest.fixture
def words(tool: ModuleType) -> ModuleType:
    return importlib.import_module("results_tote_small_figures")


def section(samples: int, units: int, figures: dict[str, list[float | None]]) -> Card:
    return {"protocol": "p", "samples": samples, "units": units, "unit": "u", "counts": {
        "products_with_references": 60, "reference_images": 360}, "figures": figures}  # fmt: skip


def a_run(value: float) -> Card:
    """One figure of each kind, with limits .1 below and .05 above."""
    row = [value, value - 0.1, value + 0.05, 40]
    return {
        "predictor": {
            "bundle_name": "tote-small", "version": "1.0", "sha256": "0123456789abcdef",
            "precision": "int8", "provider": "cpu", "fused_views": ["PickRGB", "ToteWallRGB"],
            "defect_thresholds": {"multi_pick": 0.25},
        },
        "machine": {"cores": 2, "cpu": "Chip", "system": "Linux"},
        "versions": {"onnxruntime": "1.31", "robollm": "1.0"},
        "bootstrap": {"draws": 1000, "level": 0.95, "seed": 0},
        "conditions": {"others_cores": 1.5, "workers": 2},
        "partial": [],
        "manifests": {"least": 16, "median": 20, "most": 25},
        "sections": {
            MIX: section(50, 50, {MASK: row, "ece": row, "ece_floor": [0.0125, 0, 0.02, 50]}),
            "identification": section(30, 12, {"recall@1_container_product_n1": row}),
            "defects": section(80, 20, {"verdict_multi_pick_fpr": [0.06, 0.04, 0.09, 15]}),
        },
        "baselines": {"colour-histogram": {
            "identification": section(30, 12, {"recall@1_container_product_n1": [0.25, 0, 1, 12]}),
        }},
    }  # fmt: skip


def a_set(value: float) -> Card:
    data = {"split": "test", "digest": "fedcba9876543210", "samples": {"defects": 80}}
    chance = {**a_run(0.5), "sections": {MIX: section(50, 50, {MASK: [0.001, 0, 0.002, 50]})}}
    return {"data": data, "runs": {"default": a_run(value), "chance": chance}}


@pytest.fixture
def card() -> Card:
    return {
        "command": "python bench/tote_small.py --gl GL",
        "commands": {"default": "robollm eval armbench DATA"},
        "limit": 0,
        "demo": None,
        "sets": {"gl": a_set(0.8)},
        "gap": {},
    }


def line(text: str, start: str) -> list[str]:
    """Cells of the one row that begins with these words."""
    (found,) = (row for row in text.splitlines() if row.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_readme_and_document_have_what_the_results_make(tool: ModuleType, root: Path) -> None:
    path = root / "results" / "tote_small.json"
    card = json.loads(path.read_text()) if path.is_file() else {}
    for file, new in tool.made(card, root).items():
        text = file.read_text()
        assert tool.replaced(text, new, file.name) == text, (
            f"{file.name} is stale: python tools/results_tote_small.py"
        )


def test_a_row_is_the_figure_its_limits_the_baseline_and_the_goal(
    tool: ModuleType, card: Card
) -> None:
    text = tool.table(card)
    assert line(text, "masks of objects, mixed totes: mAP50")[1:] == [
        "0.800 [0.700, 0.850]", "not measured", "0.001 (chance)", "≥ 0.75: met, not beyond doubt",
    ]  # fmt: skip
    assert line(text, "product in its container: recall@1, one view")[1:] == [
        "0.800 [0.700, 0.850]", "not measured", "0.250 (colour-histogram)",
        "≥ 0.90: missed by 0.100",
    ]  # fmt: skip
    assert line(text, "totes of one product")[1:] == [
        "–", "not measured", "–", "≥ 0.50: not measured",
    ]  # fmt: skip
    assert "OpenGL: 50 totes, 30 picks of 12 products among 60, 20 inducts; containers" in text
    assert "containers of 16 to 25" in text
    assert "tote-small 1.0 (0123456789ab), int8 on cpu, 2 cores of an Chip" in text


def test_cycles_has_its_own_column_and_its_gap_a_goal(tool: ModuleType, card: Card) -> None:
    card["sets"]["cycles"] = a_set(0.65)
    card["gap"] = {MIX: {MASK: [0.15, 0.05, 0.25, 0.004]}}
    cells = line(tool.table(card), "masks of objects, mixed totes: mAP50")
    assert cells[1:3] == ["0.800 [0.700, 0.850]", "0.650 [0.550, 0.700]"]
    document = tool.document(card, "")
    assert line(document, "masks, mAP50, mixed totes")[-1] == (
        "≤ 0.10: missed by 0.050, within the interval"
    )
    assert line(document, MIX)[-2:] == ["0.150 [0.050, 0.250]", "0.004"]


def test_a_goal_is_met_or_missed_and_says_how_sure_that_is(words: ModuleType) -> None:
    recall = words.Goal("", "defects", "", ">", 0.95)
    fpr = words.Goal("", "defects", "", "<=", 0.05)
    for goal, row, want in (
        (recall, [0.98, 0.96, 0.99], "> 0.95: met"),
        (recall, [0.95, 0.90, 0.94], "> 0.95: missed by 0.000"),
        (recall, [0.96, 0.90, 0.99], "> 0.95: met, not beyond doubt"),
        (recall, [0.96, None, None], "> 0.95: met, not beyond doubt"),
        (fpr, [0.05, 0.01, 0.05], "≤ 0.05: met"),
        (fpr, [0.06, 0.04, 0.09], "≤ 0.05: missed by 0.010, within the interval"),
        (fpr, [None, None, None], "≤ 0.05: not measured"),
        (fpr, None, "≤ 0.05: not measured"),
    ):
        assert words.goal_words(goal, row) == want
    assert words.gap_words([-0.02, -0.1, 0.06, 0.5]) == "≤ 0.10: met"
    assert words.gap_words([0.02, -0.1, 0.16, 0.5]) == "≤ 0.10: met, not beyond doubt"


def test_published_numbers_stand_apart_and_say_that_they_are_another_datasets(
    tool: ModuleType, card: Card
) -> None:
    document = tool.document(card, "../curves.png")
    heads = [row for row in document.splitlines() if "not comparable" in row]
    assert [row.count("|") - 1 for row in heads] == [2 + 3 + 2, 2 + 5 + 4, 2 + 4 + 3]
    mask = line(document, "Mixed object tote | mask mAP50")
    assert mask[2:] == ["0.800 [0.700, 0.850]", "not measured", "0.001 [0.000, 0.002]", "*0.72*",
                        "*0.82*"]  # fmt: skip
    first = line(document, "Container, N=1 | recall@1")
    assert first[2:] == ["80.0 [70.0, 85.0]", "not measured", "25.0 [0.0, 100.0]", "–", "–",
                         "*71.7*", "*77.2*", "*83.7*", "*97.8*"]  # fmt: skip
    assert "![Validation figures by step](../curves.png)" in document
    assert line(document, "Multi-pick | verdict: FPR")[2] == "0.060 [0.040, 0.090]"
    assert line(document, "instances: found at IoU .5")[1] == "0.800 [0.700, 0.850]; 0.013"


def test_fp32_has_columns_where_it_was_measured_beside_another_precision(
    tool: ModuleType, card: Card
) -> None:
    assert "fp32" not in tool.document(card, "")
    card["sets"]["gl"]["runs"]["fp32"] = a_run(0.7)
    document = tool.document(card, "")
    mask = line(document, "Mixed object tote | mask mAP50")
    assert mask[2:4] == ["0.800 [0.700, 0.850]", "0.700 [0.600, 0.750]"]
    assert "int8 on cpu; fp32 beside it where a column says so." in document
    assert line(document, "the same, fp32 | p50")[2:] == ["–", "not measured"]
    assert "OpenGL, totes: 2 processes at a time of one thread; others kept 1.5 cores" in document


def test_every_goal_of_the_plan_is_there_once(words: ModuleType, tool: ModuleType) -> None:
    assert sum(g.gap for g in words.GOALS) == 5
    named = [(g.part, g.figure) for g in words.GOALS]
    assert len(set(named)) == len(named) == 5 + 4 + 2 + 6
    shown = {(part, figure) for _, part, figure, _ in tool.HEADLINES}
    assert set(named[:5]) <= shown


def test_where_nothing_was_measured_there_is_no_table(tool: ModuleType) -> None:
    assert "`models/tote-small`: not measured yet" in tool.table({})
    assert tool.document({}, "") == "Nothing was measured yet."


def test_the_demos_time_has_its_own_row_and_goal(tool: ModuleType, card: Card) -> None:
    for median, worst, want in (
        (90, 240, "met"),
        (90, 300, "missed by some"),
        (260, 300, "missed"),
    ):
        card["demo"] = {"picks": 8, "timed": 6, "median_ms": median, "worst_ms": worst}
        row = line(tool.table(card), "`make demo`, a pick event, median and worst, ms")
        assert row[1:] == [f"{median}, {worst}", "–", "–", f"≤ 250: {want}"]


def test_the_same_results_write_the_same_and_a_stale_file_is_told(
    tool: ModuleType, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "docs").mkdir()
    files = [tmp_path / "README.md", tmp_path / "docs" / "tote-small.md"]
    for file in files:
        file.write_text(f"before\n{tool.BEGIN}\n{tool.END}\nafter\n")
    results = tmp_path / "results" / "tote_small.json"
    results.write_text(json.dumps(card))

    def ended(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tool", "--root", str(tmp_path), *arguments])
        found: int = tool.main()
        return found

    assert ended("--check") == 1
    assert capsys.readouterr().err.count("is stale") == 2
    assert ended() == ended("--check") == 0
    written = [file.read_text() for file in files]
    assert all(t.startswith("before\n") and t.endswith("\nafter\n") for t in written)
    other = copy.deepcopy(card)
    other["sets"]["gl"]["runs"]["default"]["sections"][MIX]["figures"][MASK][0] = 0.81
    results.write_text(json.dumps(other))
    assert ended("--check") == 1
    results.write_text(json.dumps(card))
    assert ended() == 0
    assert [file.read_text() for file in files] == written
    with pytest.raises(SystemExit, match=r"in README\.md, each once"):
        tool.replaced("no marks", "", "README.md")
