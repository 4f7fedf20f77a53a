from __future__ import annotations

import io
import json
import signal
from contextlib import suppress

import click
import pytest
from click.testing import CliRunner
from compare_kit import CARD, defects, write_run
from rich.console import Console
from tiny_armbench import write_picks

from robollm.cli.eval import options
from robollm.cli.options import take
from robollm.core.settings import RuntimeConfig
from robollm.data.problems import Problems
from robollm.eval.make_bag import make_bag
from robollm.eval.progress import SILENT, Lines, clock, shown, stage
from robollm.eval.report import write_report
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import score


class Told:
    """Notes stages: label -> total, and how many were done."""

    def __init__(self):
        self.stages, self.open = {}, ""

    def begin(self, label, total, done=0):
        assert not self.open, "one stage at a time"
        self.open, self.stages[label] = label, [total, 0]

    def advance(self, *, failed=False):
        self.stages[self.open][1] += 1

    def say(self, line):
        pass

    def end(self):
        assert self.open
        self.open = ""


class HandClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_now_and_then_with_rate_and_time_left():
    out, time = io.StringIO(), HandClock()
    lines = Lines(out, time)
    lines.begin("defects", 1_000, done=400)
    for _ in range(300):
        time.now += 1 / 16
        lines.advance()
    lines.say("a word")
    lines.advance(failed=True)
    lines.end()
    assert out.getvalue().splitlines() == [
        "defects: 400 of 1,000",
        "defects: 560 of 1,000, 16/s, 0:00:28 left",
        "a word",
        "defects: 701 of 1,000, 16.1/s, 0:00:19 left, 1 failed",
    ]


def test_where_nobody_knows_how_many_there_are_nothing_is_said_of_the_end():
    out, time = io.StringIO(), HandClock()
    lines = Lines(out, time)
    lines.begin("picks", None)
    time.now += 2
    lines.advance()
    lines.end()
    lines.end()
    assert out.getvalue().splitlines() == ["picks: 0", "picks: 1, 0.5/s"]


def test_hours_are_written_as_people_do():
    assert [clock(s) for s in (0, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines(capsys, monkeypatch):
    with shown() as progress:
        assert isinstance(progress, Lines)
        progress.begin("totes", 2)
        progress.end()
    assert capsys.readouterr() == ("", "totes: 0 of 2\ntotes: 0 of 2\n")
    screen = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda stderr: Console(file=screen, force_terminal=True, width=100),
    )
    with shown() as progress:
        progress.begin("totes", 2)
        progress.advance()
        progress.advance(failed=True)
        progress.say("[a word]")
        progress.end()
    assert "[a word]" in screen.getvalue()
    assert "totes: 2 of 2, " in screen.getvalue()
    assert "1 failed" in screen.getvalue()
    assert capsys.readouterr() == ("", "")
    SILENT.begin("totes", 2)
    SILENT.advance()
    SILENT.end()
    assert capsys.readouterr() == ("", "")


# the options


@click.command()
@options.out_option
@options.gallery_option
@options.predictor_option
@options.limit_option
@options.json_option
@options.with_bundle
@options.with_workers
@options.with_draws
def every(**values):
    config = take(RuntimeConfig, values)
    click.echo(json.dumps({**values, "config": config.bundle}, default=str))


def values(*words):
    done = CliRunner().invoke(every, ["--out", "RUN", *words])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_shared_options_have_defaults_that_suit_this_machine():
    got = values()
    assert got["workers"] == 0
    assert (got["ray"], got["limit"], got["draws"], got["seed"]) == ("", None, 1000, 0)
    assert (got["bundle"], got["config"], got["predictor"]) == ("", "", "bundle")
    assert (got["allow_untrained"], got["precision"], got["provider"]) == (False, "auto", "cpu")
    got = values("--ray", "--workers", "3", "--bundle", "B")
    assert (got["ray"], got["workers"], got["config"]) == ("local", 3, "B")
    assert values("--ray", "10.0.0.1:6379")["ray"] == "10.0.0.1:6379"


def test_one_json_object_is_printed_or_lines_but_never_both(capsys):
    options.say_end({"run": "R", "map": None}, as_json=True, lines=lambda: pytest.fail("lines"))
    assert capsys.readouterr().out == '{"run": "R", "map": null}\n'
    options.say_end({}, as_json=False, lines=lambda: click.echo("for people"))
    assert capsys.readouterr().out == "for people\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        options.say_end({"map": float("nan")}, as_json=True, lines=lambda: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_verb_ends_with_130_and_gives_the_signals_back(tmp_path, capsys, number):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as e, options.resumable(tmp_path):
        signal.raise_signal(number)
    assert e.value.code == 130
    said = capsys.readouterr()
    assert ("the same command goes on" in said.err, said.out) == (True, "")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("began", [False, True])
def test_an_interrupted_verb_with_json_says_what_it_has(tmp_path, capsys, began):
    out = tmp_path / "run"
    if began:
        with suppress(KeyboardInterrupt), RunFolder.create_or_resume(out, CARD):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit), options.resumable(out, as_json=True):
        signal.raise_signal(signal.SIGINT)
    card = json.loads(capsys.readouterr().out)
    why = ["interrupted before the figures were made"]
    assert card == {
        "run": str(out), "complete": False, "partial": True, "figures": {}, "metrics": None,
        "report": None, "reasons": [*why, *["the run is not complete: interrupted"] * began],
    }  # fmt: skip


def test_ctrl_c_outside_of_a_run_does_not_end_like_a_regression(robollm, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robollm.eval.compare.compare", stop)
    said = robollm("eval", "compare", tmp_path, tmp_path, "--json")
    assert (said.code, said.out, said.err) == (130, "", "interrupted\n")


def test_eval_lists_all_its_verbs_with_a_line_each(robollm):
    said = robollm("eval", "--help")
    assert said.code == 0
    for verb in ("armbench", "bag", "picks", "make-bag", "score", "report", "compare"):
        assert f"  {verb} " in said.out
    assert "doctor" in robollm("--help").out


def test_scoring_and_the_report_say_how_far_they_are_and_baselines_too(tmp_path):
    path = write_run(tmp_path / "run", {"defects": defects(wrong={3}, count=9)})
    write_run(path / "baselines" / "majority", {"defects": defects(count=9)})
    told, run = Told(), RunFolder.open(path)
    metrics = score(run, draws=100, progress=told)
    write_report(run, metrics, progress=told)
    assert told.stages == {
        "defects: samples to count": [9, 9],
        "defects, 9 units: draws": [100, 100],
        "bundle: defects: samples to count": [9, 9],  # as its card calls the one beside
        "bundle: defects, 9 units: draws": [100, 100],
        "report: samples to draw": [1, 1],
    }


def test_a_stage_ends_when_its_work_fails():
    told = Told()
    with suppress(RuntimeError), stage(told, "work", 2) as done:
        done()
        raise RuntimeError
    assert told.open == ""
    assert told.stages == {"work": [2, 1]}


def test_make_bag_counts_its_picks_before_it_writes_them(tmp_path):
    write_picks(tmp_path, count=5)
    told = Told()
    make_bag(tmp_path, tmp_path / "whole", Problems(), progress=told)
    make_bag(tmp_path, tmp_path / "part", Problems(), limit=2)
    assert told.stages == {"picks to count": [None, 5], "picks": [5, 5]}
