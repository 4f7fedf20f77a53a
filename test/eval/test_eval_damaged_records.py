"""A record that is damaged inside its line costs that record: counted, named, and made again."""

from __future__ import annotations

import json

import pytest
from compare_kit import CARD as HAND_CARD
from compare_kit import defects, write_run
from counting_desk import CARD, STREAM, CountingDesk, jobs

from robollm.core.errors import EvalError
from robollm.eval.compare import UNDECIDED, compare
from robollm.eval.gate import Question
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import predict
from robollm.eval.score import score


def damage(run, number, old=b'"label"', new=b'"babel"'):
    """Change a line inside, so that both of its ends are good."""
    (file,) = (run / "records").glob("defects.0.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(old, new)
    file.write_bytes(b"".join(lines))


def filled(path, some):
    with RunFolder.create_or_resume(path, CARD) as run:
        predict(run, STREAM, some, CountingDesk, (), workers=1)
    return path


@pytest.mark.parametrize("new", [b'"babel"', b"\xff\xfe\xfd", b"'"])
def test_the_other_records_are_scored_and_the_run_is_partial(tmp_path, new):
    path = write_run(tmp_path / "run", {"defects": defects(count=9)})
    damage(path, 4, new=new)
    run = RunFolder.open(path)
    metrics = score(run, draws=100)
    assert metrics.sections[0].samples == 8
    reasons = " ".join(metrics.partial_reasons)
    assert "1 of 9 samples of defects have no record any more" in reasons
    assert "1 lines of defects: damaged_line" in reasons
    assert "defects.0.jsonl, byte" in run.damage("defects").lines()[0]


def test_a_comparison_is_not_decided_by_a_run_that_lost_a_record(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, {"defects": defects(count=60)})
    damage(tmp_path / "b", 4)
    found = compare(tmp_path / "a", tmp_path / "b", Question(draws=500))
    assert found.exit_code == UNDECIDED
    assert any("have no record any more" in line for line in found.missing)
    assert found.samples["defects"]["samples"] == 59


def test_the_same_command_makes_a_damaged_record_again_and_the_run_is_whole(tmp_path):
    want = list(RunFolder.open(filled(tmp_path / "want", jobs(6))).records(STREAM))
    path = filled(tmp_path / "run", jobs(6))
    damage(path, 2)
    with RunFolder.create_or_resume(path, CARD) as run:
        done = predict(run, STREAM, jobs(6), CountingDesk, (), workers=1)
    assert (done.done, done.skipped) == (1, 5)
    again = RunFolder.open(path)
    assert list(again.records(STREAM)) == want
    assert again.partial_reasons() == []
    assert again.damage(STREAM).counts == {}
    with RunFolder.create_or_resume(path, CARD) as run:
        done = predict(run, STREAM, jobs(6), CountingDesk, (), workers=1)
    assert (done.done, done.skipped) == (0, 6)


def test_a_damaged_failure_leaves_the_failure_before_it(tmp_path):
    path = filled(tmp_path / "run", jobs(3, n1="bad image"))
    filled(path, jobs(3, n1="bad image"))  # tried again: two records with an error
    damage(path, -1)
    run = RunFolder.open(path)
    assert [bool(r.error) for r in run.records(STREAM)] == [False, True, False]


def test_a_stream_of_which_nothing_can_be_understood_is_an_error(tmp_path):
    path = write_run(tmp_path / "run", {"defects": defects(count=2)})
    for number in (0, 1):
        damage(path, number)
    with pytest.raises(EvalError, match="not a record of defects"):
        score(RunFolder.open(path), draws=100)
    assert json.loads((path / "run.json").read_text())["data"] == HAND_CARD["data"]
