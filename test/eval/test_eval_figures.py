"""What metrics.json holds comes back as it was, and what is no metrics.json is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from robollm.core.errors import EvalError
from robollm.eval.figures import (
    Curve,
    Embeddings,
    Histogram,
    Metrics,
    Section,
    Table,
    Worst,
)
from robollm.eval.latency import latency
from robollm.metrics.bootstrap import Interval

SECTION = Section(
    task="identification",
    subset="",
    split="test",
    protocol="as told",
    samples=3,
    units=2,
    unit="product",
    figures={"recall": Interval(0.5, 0.25, 0.75, 2), "none": Interval(math.nan, 0, 1, 0)},
    curves={"roc": Curve("roc", (0.0, 1.0), (0.5, math.nan), "fpr", "recall", "all")},
    tables={"confusion": Table(("truth", "a"), (("a", 3), ("b", None), ("c", 0.5)), "rows: truth")},
    histograms={"latency: total": Histogram((0.0, 1.0, 2.0), (1, 2), "ms")},
    counts={"picks": 3},
    worst=(Worst("p1", 0.5, "It is another one.", {"outcome": "wrong product"}),),
    embeddings=Embeddings(((0.0, 1.0, "B1", True), (0.5, 0.5, "B2", None)), "PCA"),
)
METRICS = Metrics(
    partial=True,
    partial_reasons=("stopped",),
    bootstrap={"draws": 100, "level": 0.95, "seed": 0},
    sections=(SECTION,),
    baselines={"majority": (SECTION,)},
)


def text(metrics):
    return json.dumps(metrics.to_json(), allow_nan=False)


def test_what_is_written_is_read_back_and_nothing_else_stays(tmp_path):
    METRICS.write(tmp_path)
    back = Metrics.read(tmp_path)
    assert text(back) == text(METRICS)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    assert math.isnan(back.sections[0].figures["none"].value)
    assert math.isnan(back.sections[0].curves["roc"].y[1])
    assert back.sections[0].embeddings == SECTION.embeddings


def test_a_section_is_found_by_its_task_and_subset():
    assert METRICS.section("identification") is SECTION
    assert METRICS.section("identification", "x") is None
    assert SECTION.name == "identification"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format": "other"}, "of format 'other'"),
        ({"format_version": 2}, "version 2"),
        ({"sections": [{"task": "x"}]}, "damaged: KeyError"),
        ({"baselines": None}, "damaged: AttributeError"),
    ],
)
def test_another_format_or_damage_is_an_error_with_a_way_out(tmp_path, change, what):
    (tmp_path / "metrics.json").write_text(json.dumps({**METRICS.to_json(), **change}))
    with pytest.raises(EvalError, match=what) as e:
        Metrics.read(tmp_path)
    assert "robollm eval score" in e.value.fix


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(EvalError, match="metrics"):
        Metrics.read(tmp_path)


def test_percentiles_of_stages_are_those_of_their_samples():
    rows = [{"read": float(k), "head": 1.0} for k in range(1, 201)] + [{}]
    figures, pictures = latency(rows)
    read = figures["latency_read_p50"]
    assert read.value == np.quantile(np.arange(1, 201), 0.5)
    assert (read.cases, read.low < read.value < read.high) == (200, True)
    assert figures["latency_total_p95"].value == np.quantile(np.arange(2, 202), 0.95)
    assert sum(pictures["latency: read"].counts) == 200
    assert len(pictures["latency: read"].edges) == len(pictures["latency: read"].counts) + 1


def test_limits_of_a_percentile_hold_as_often_as_they_promise():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        rows = [{"read": float(v)} for v in rng.exponential(1.0, 80)]
        one = latency(rows)[0]["latency_read_p50"]
        held += one.low <= math.log(2) <= one.high
    assert held >= 0.93 * 300


def test_few_samples_have_no_limits_of_their_last_percentile():
    figures, _ = latency([{"read": 1.0}, {"read": 2.0}])
    assert math.isnan(figures["latency_read_p99"].high)
    assert latency([]) == ({}, {})


def test_a_run_that_can_not_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EvalError, match="can't be written"):
        METRICS.write(tmp_path / "file")
