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
