"""The README's numbers are those of results/*.json."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

NOT_MEASURED = "not measured"


@pytest.fixture
def tool(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "tools"))
    return importlib.import_module("results_table")


@pytest.fixture
def rows(tool: ModuleType) -> ModuleType:
    return importlib.import_module("results_rows")


def test_the_readme_has_the_table_that_the_results_make(tool: ModuleType, root: Path) -> None:
    text = (root / "README.md").read_text()
    assert tool.replaced(text, tool.table(root / "results")) == text, (
        "stale: python tools/results_table.py"
    )


def test_a_row_without_its_file_or_case_says_that_it_was_not_measured(
    tool: ModuleType, tmp_path: Path
) -> None:
    empty = tool.table(tmp_path).count(NOT_MEASURED)
    assert empty >= 10
    (tmp_path / "end_to_end.json").write_text(json.dumps({"cases": {}}))
    assert tool.table(tmp_path).count(NOT_MEASURED) == empty


def test_a_result_that_lacks_what_a_row_shows_is_an_error(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"memory\.json: the row .* misses 'cases'"):
        tool.table(tmp_path)


def test_every_row_with_numbers_names_a_command_that_exists(rows: ModuleType, root: Path) -> None:
    for row in rows.ROWS:
        if row.measured == NOT_MEASURED:
            continue
        program, file = row.command.split()[:2]
        assert program == "robollm" or (program == "python" and (root / file).is_file()), row.what


def test_a_document_without_the_marks_is_refused(tool: ModuleType) -> None:
    good = f"a\n{tool.BEGIN}\nold\n{tool.END}\nb"
    new = f"{tool.BEGIN}\nnew\n{tool.END}"
    assert tool.replaced(good, new) == f"a\n{new}\nb"
    for bad in ("a", tool.BEGIN, tool.END + tool.BEGIN, good + good):
        with pytest.raises(SystemExit, match="want the lines"):
            tool.replaced(bad, new)


MACHINE = {"cpu": "A", "cores": 2, "flags": ["avx2", "avx512_bf16"], "commit": "1"}


@pytest.fixture
def row(tool: ModuleType) -> ModuleType:
    return importlib.import_module("results_row")


def with_runs(**machines: dict[str, object]) -> dict[str, object]:
    """A results file whose cases were measured on these machines."""
    cases = {name: {"run": {"machine": one}} for name, one in machines.items()}
    return {"machine": {"cpu": "of the newest"}, "cases": cases}


def test_no_machine_and_no_commit_is_claimed_for_a_case_of_another(row: ModuleType) -> None:
    a = "2 cores of an A with avx512_bf16"
    assert row.cpu(with_runs(x=MACHINE, y=MACHINE), "x", "y") == a
    other = with_runs(x=MACHINE, y={**MACHINE, "cores": 64})
    assert row.cpu(other, "x") == a
    assert row.cpu(other, "x", "y") == f"x: {a}; y: 64 cores of an A with avx512_bf16"
    later = with_runs(x=MACHINE, y={**MACHINE, "commit": "2"})
    assert row.cpu(later, "x", "y") == f"{a}; not of one commit: x: 1; y: 2"


def test_an_older_file_has_one_machine_for_all_of_its_cases(row: ModuleType) -> None:
    old = {"machine": MACHINE, "cases": {"x": {}, "y": {}}}
    assert row.cpu(old, "x", "y") == "2 cores of an A with avx512_bf16"
    assert row.cpu({"conditions": MACHINE}) == "2 cores of an A with avx512_bf16"


def test_a_row_shows_the_command_that_its_own_case_was_measured_by(
    row: ModuleType, tmp_path: Path
) -> None:
    cases = {"x": {"run": {"command": "python bench/some.py --cases x"}}, "y": {}}
    (tmp_path / "some.json").write_text(json.dumps({"command": "newest", "cases": cases}))
    for name, command in {"x": "python bench/some.py --cases x", "y": "usual"}.items():
        one = row.Row("what", "1", "", "usual", "some", case=name)
        assert one.cells(tmp_path)[3] == f"`{command}` ([json](results/some.json))"


def test_a_slope_that_is_lost_in_its_scatter_is_about_zero(row: ModuleType) -> None:
    steps = {"1": 0.5, "5": -0.5, "10": 0.0, "20": -0.5, "40": 0.5}
    sure = {n: 100 + 3 * int(n) + off for n, off in steps.items()}
    assert row.line(sure) == "99.9 + 3 ± 0.02 ms"
    lost = {n: 100 + 0.01 * int(n) + off for n, off in steps.items()}
    assert "about 0 (0.0" in row.line(lost)
    assert row.line({"1": 10.0, "2": 12.0}) == "8.0 + 2 ms"


def test_what_fewer_proposals_cost_stands_beside_their_ratios(tool: ModuleType) -> None:
    end_to_end = importlib.import_module("results_end_to_end")
    model = {"weights": "trained"}
    case = {"model": model, "rows": {"cpu fp32": {}, "cpu fp32, 50 proposals": {}}}
    card: dict[str, object] = {"cases": {"trained": case}}
    assert end_to_end.costs(card, "trained") == (
        "what 50 proposals and features once cost: not measured"
    )
    ways = {"crops": {"recall@1_container": 0.3}, "tote": {"recall@1_container": 0.25}}
    found = {"proposals": {"rows": {"50": {"points_lost": 1.13}}}, "crops or tote": {"rows": ways}}
    card["rois"] = {"place": "cpu fp32", "model": model, "cases": found}
    said = end_to_end.costs(card, "trained")
    assert said.startswith(
        "cost of 50 proposals 1.1 points of mask mAP50, features once 5.0 points of recall@1 (cpu"
    )
    assert "another model" not in said
    card["rois"] = {"place": "cpu fp32", "model": {}, "cases": found}
    assert "another model" in end_to_end.costs(card, "trained")
    case["model"] = {"weights": "random"}
    assert "can't be told of random weights" in end_to_end.costs(card, "trained")
