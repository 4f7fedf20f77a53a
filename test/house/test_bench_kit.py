"""bench/kit.py: what a results file keeps, and the command that it says it was made by."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from robollm.core.errors import ConfigError, InferenceError

CASES = ("one", "two", "base 640")


@pytest.fixture
def kit(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "bench"))
    return importlib.import_module("kit")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "some.json"


def parsed(kit: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
    parser = kit.options("Does it run?", "some", CASES, rounds=7)
    for name in ("run", "bundle", "data", "plot"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    monkeypatch.setattr(sys, "argv", ["some.py", *map(str, words)])
    return kit.parse(parser)


def measured(kit: ModuleType, args: Any, value: object, **about: object) -> Any:
    results = kit.Results(args, **about)
    for name in args.cases:
        results.run(name, lambda: {"rows": {"a": value}})
    return json.loads(args.out.read_text())


def values(card: Any) -> list[object]:
    """What the cases say, in their order."""
    return [card["cases"][name]["rows"]["a"] for name in CASES]


def test_the_command_has_every_option_that_is_not_at_its_default(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    assert parsed(kit, monkeypatch, "--out", out).command == "python bench/some.py"
    words = ["--no-compile", "--threads", 99, "--provider", "openvino"]
    words += ["--cases", "two", "base 640"]
    said = parsed(kit, monkeypatch, *words, "--rounds", 7, "--resume", "--work", "w").command
    assert said == (
        "python bench/some.py --cases two 'base 640' --threads 99 --provider openvino --no-compile"
    )


def test_paths_that_are_read_are_placeholders_and_others_are_left_out(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["--data", "/mine/data", "--run", "/r", "--bundle", "/b", "--plot", "/p.png"]
    said = parsed(kit, monkeypatch, *paths).command
    assert said == "python bench/some.py --run RUN --bundle B --data D"


def test_cases_that_are_not_asked_for_stay_with_their_own_run(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    measured(kit, parsed(kit, monkeypatch, "--out", out), 1, place="cpu")
    monkeypatch.setattr(kit, "machine", lambda: {"cpu": "another", "commit": "new"})
    again = parsed(kit, monkeypatch, "--out", out, "--cases", "two", "--threads", 99)
    card = measured(kit, again, 2, place="openvino")
    assert values(card) == [1, 2, 1]
    runs = {n: c["run"] for n, c in card["cases"].items()}
    assert runs["one"]["command"] == "python bench/some.py"
    assert runs["one"]["machine"]["cpu"] != "another"
    assert runs["one"]["place"] == "cpu"
    assert runs["two"] == {"command": "python bench/some.py --cases two --threads 99",
                           "machine": {"cpu": "another", "commit": "new"}, "place": "openvino",
                           "threads": 99}  # fmt: skip
    assert {k: v for k, v in card.items() if k != "cases"} == runs["two"]


def test_a_case_that_is_asked_for_is_measured_again_unless_it_is_resumed(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    measured(kit, parsed(kit, monkeypatch, "--out", out, "--cases", "one"), 1)
    kept = measured(kit, parsed(kit, monkeypatch, "--out", out, "--resume"), 2)
    assert values(kept) == [1, 2, 2]
    assert kept["cases"]["one"]["run"]["command"] == "python bench/some.py --cases one"
    new = measured(kit, parsed(kit, monkeypatch, "--out", out), 3)
    assert values(new) == [3, 3, 3]


def test_cases_of_an_older_file_get_the_run_that_the_file_names(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    old = {"command": "old", "machine": {"cpu": "old"}, "threads": 4}
    out.parent.mkdir()
    out.write_text(json.dumps({**old, "cases": {"one": {"rows": {}}, "two": {"rows": {}}}}))
    card = measured(kit, parsed(kit, monkeypatch, "--out", out, "--cases", "two"), 2)
    assert card["cases"]["one"] == {"run": old, "rows": {}}
    assert card["cases"]["two"]["run"]["command"] != "old"


def test_a_refusal_is_a_result_and_is_said(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = kit.Results(parsed(kit, monkeypatch, "--out", out))

    def refuse() -> dict[str, Any]:
        raise InferenceError("not equal", fix="look")

    results.run("one", refuse)
    assert json.loads(out.read_text())["cases"]["one"]["refused"] == "not equal"
    capsys.readouterr()
    assert list(results.measured()) == []
    assert capsys.readouterr().out == "\none: not measured: not equal\n"


def test_a_write_that_fails_leaves_the_file_as_it_was(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    args = parsed(kit, monkeypatch, "--out", out)
    measured(kit, args, 1)
    before = out.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            measured(kit, args, 2)
    assert out.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_what_is_no_results_file_is_not_overwritten(
    kit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="not readable JSON"):
        kit.Results(parsed(kit, monkeypatch, "--out", tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_deliberate_error_ends_in_two_plain_lines(
    kit: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise ConfigError("seen 0, want 1", fix="give one")

    assert kit.told(main) == 2
    assert capsys.readouterr().err == "error: seen 0, want 1\n  fix: give one\n"
