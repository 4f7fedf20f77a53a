from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from compare_kit import (
    CARD,
    Shares,
    defect,
    defects,
    image,
    pick,
    query,
    unit,
    write_gallery,
    write_run,
)

from robollm.core.errors import EvalError
from robollm.eval.compare import PASSED, REGRESSED, UNDECIDED, compare, differences
from robollm.eval.compare_samples import sample_changes
from robollm.eval.directions import chosen, direction
from robollm.eval.gate import GAIN, REGRESSION, SAME, UNKNOWN, Question, holm, judge
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import tallies

QUICK = Question(draws=120)
PLANTED = range(0, 60, 3)  # multi_picks that the second run calls nominal


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """300 inducts, ten of them wrong."""
    return write_run(tmp_path_factory.mktemp("a") / "run", {"defects": defects(range(240, 250))})


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """The same, twenty more wrong, three of the ten right."""
    wrong = {*PLANTED, *range(243, 250)}
    return write_run(tmp_path_factory.mktemp("b") / "run", {"defects": defects(wrong)})


def test_a_planted_regression_is_found_with_the_very_samples(before, after):
    found = compare(before, after, QUICK)
    assert [c.figure for c in found.regressions] == ["image_combined_recall"]
    (change,) = found.regressions
    assert change.difference.delta == pytest.approx(-19 / 200)  # of the 3, one was missed
    assert change.p < 0.05
    assert found.samples["defects"] == {
        "samples": 300, "both_right": 270, "both_wrong": 7, "lost": 20, "won": 3,
    }  # fmt: skip
    assert {s.key for s in found.lost} == {f"{n:021d}/0" for n in PLANTED}
    assert {int(s.key[:21]) for s in found.won} == {240, 241, 242}
    assert (found.lost[0].truth, found.lost[0].b) == (
        "multi_pick",
        "nominal (0.90), multi_pick 0.05",
    )
    json.dumps(found.to_json(), allow_nan=False)


def test_the_other_way_round_it_is_a_gain(before, after):
    found = compare(after, before, QUICK)
    assert not found.regressions
    verdicts = {c.figure: c.verdict for c in found.changes if c.decides}
    assert verdicts["image_combined_recall"] == GAIN


def test_a_run_is_no_worse_than_itself(before):
    found = compare(before, before, QUICK)
    assert {c.verdict for c in found.changes} <= {SAME, UNKNOWN}
    assert all(c.p == 1 for c in found.changes)
    assert (found.lost, found.won, found.left_out) == ((), (), ())


def test_the_largest_loss_comes_first(tmp_path):
    good = [defect(n, "multi_pick", "multi_pick", sure=0.9) for n in range(9)]
    bad = [defect(n, "multi_pick", "nominal", sure=0.5 + n / 20) for n in range(9)]
    few = Question(metric=("image_*_recall",), draws=120)
    a, b = (write_run(tmp_path / x, {"defects": r}) for x, r in (("a", good), ("b", bad)))
    found = compare(a, b, few)
    assert [int(s.key[:21]) for s in found.lost] == list(range(8, -1, -1))


def test_a_loss_within_the_margin_is_accepted_and_one_beyond_it_is_not(before, after):
    wide = dataclasses.replace(QUICK, margin=0.15)
    narrow = dataclasses.replace(QUICK, margin=0.02)
    assert not compare(before, after, wide).regressions
    assert compare(before, after, narrow).regressions
    # What should fall gets its margin the other way.
    fewer = dataclasses.replace(narrow, metric=("image_multi_pick_fpr",))
    assert not compare(before, after, fewer).regressions


def test_samples_that_only_one_run_has_are_named_and_the_rest_is_compared(before, tmp_path):
    part = write_run(tmp_path / "part", {"defects": defects(PLANTED)[:200]})
    found = compare(before, part, QUICK)
    assert found.samples["defects"]["samples"] == 200
    (line,) = found.missing
    assert "100 of 300 samples of defects are in the first run only" in line
    assert f"{200:021d}/0" in line


def gate(a, b, question=QUICK):
    """Exit codes as it is and with --allow-missing, and what is missing."""
    found = compare(a, b, question)
    allowed = dataclasses.replace(question, allow_missing=True)
    codes = found.exit_code, dataclasses.replace(found, question=allowed).exit_code
    return codes, found.missing


SHUT, OPEN = (UNDECIDED, PASSED), (PASSED, PASSED)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """30 inducts, all right."""
    return write_run(tmp_path_factory.mktemp("s") / "run", {"defects": defects(count=30)})


def test_a_gate_stays_shut_if_the_second_run_lost_samples(small, tmp_path):
    part = write_run(tmp_path / "part", {"defects": defects(count=30)[:29]})
    assert gate(small, part)[0] == SHUT
    assert gate(part, small) == (OPEN, ())  # the first one was a part: more is no loss


def test_a_gate_stays_shut_if_the_second_run_lost_a_task_but_not_if_it_has_more(small, tmp_path):
    both = {"defects": defects(count=30), "segmentation/mix": [image(n, 2) for n in range(4)]}
    more = write_run(tmp_path / "more", both)
    lost = "all 4 samples of segmentation/mix are in the first run only: 0, 1, 2, 3"
    assert gate(more, small) == (SHUT, (lost,))
    assert gate(small, more) == (OPEN, ())


def test_a_gate_stays_shut_if_a_run_did_not_end_even_if_both_have_the_same_samples(tmp_path):
    runs = [write_run(tmp_path / n, {"defects": defects(count=30)}) for n in "ab"]
    for path in runs:
        with RunFolder.create_or_resume(path, CARD) as run:
            run.finish("interrupted")
    why = "the run is not complete: interrupted"
    assert gate(*runs) == (SHUT, (f"run A: {why}", f"run B: {why}"))


def test_a_gate_stays_shut_if_a_figure_that_decides_got_lost(small, tmp_path):
    """The second run answered no nominal sample: it has no false positive rate any more."""
    failed = {"kind": "worker_died", "what": "x"}
    bad = [
        dataclasses.replace(r, error=failed, probabilities={}) if r.label == "nominal" else r
        for r in defects(count=30)
    ]
    fpr = dataclasses.replace(QUICK, metric=("image_combined_fpr", "image_combined_recall"))
    codes, missing = gate(small, write_run(tmp_path / "b", {"defects": bad}), fpr)
    said = "defects image_combined_fpr is 0.0000 in the first run, and the second has none"
    assert (codes, missing) == (SHUT, (said,))


def test_a_gate_stays_shut_if_a_figure_that_decides_rests_on_too_few_samples(tmp_path):
    rest = [defect(n, "nominal", "nominal") for n in range(1, 40)]
    runs = [
        write_run(tmp_path / said, {"defects": [defect(0, "multi_pick", said), *rest]})
        for said in ("multi_pick", "nominal")
    ]
    assert gate(*runs) == (
        SHUT,
        ("defects image_combined_recall rests on too few samples to tell",),
    )


def test_a_regression_is_one_whatever_is_missing(before, tmp_path):
    part = write_run(tmp_path / "part", {"defects": defects(range(0, 200, 2))[:200]})
    assert gate(before, part)[0] == (REGRESSED, REGRESSED)


def test_settings_that_differ_are_named(before, tmp_path):
    other = {**CARD, "settings": {"defect_crop": "image", "limit": 60}}
    with RunFolder.create_or_resume(tmp_path / "run", other) as run:
        with run.journal("defects") as journal:
            for record in defects(count=60):
                journal.append(record)
        run.note_stream("defects", 60)
    found = compare(tmp_path / "run", before, QUICK)
    assert found.unlike == (
        'settings.defect_crop is "image" in A and null in B',
        "settings.limit is 60 in A and null in B",
    )
    assert found.a["partial"] == ["asked for at most 60 samples of each kind (--limit)"]


def test_a_sample_without_an_answer_counts_as_lost(tmp_path):
    good = defects(count=30)
    bad = [dataclasses.replace(r, error={"kind": "worker_died", "what": "x"}, probabilities={})
           if n in (0, 3) else r for n, r in enumerate(good)]  # fmt: skip
    a, b = (write_run(tmp_path / x, {"defects": r}) for x, r in (("a", good), ("b", bad)))
    found = compare(a, b, QUICK)
    assert [s.b for s in found.lost] == ["no answer (worker_died)"] * 2
    assert found.b["partial"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([defect(n, "nominal", "nominal") for n in range(300)], "another truth in each run"),
        ([defect(n + 900, "nominal", "nominal") for n in range(30)], "no sample in common"),
    ],
)
def test_what_cannot_be_compared_is_an_error(before, tmp_path, other, words):
    with pytest.raises(EvalError, match=words):
        compare(before, write_run(tmp_path / "other", {"defects": other}), QUICK)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(metric=("no_such_*",)), "'no_such_.*' fits no figure"),
        (Question(metric=("image_*_recall", "typo")), "'typo' fits no figure"),
        (Question(metric=("*",), draws=100), "100 draws can't tell .* figures from chance"),
    ],
)
def test_a_question_that_has_no_answer_is_an_error(before, question, words):
    with pytest.raises(EvalError, match=words):
        compare(before, before, question)


@pytest.mark.parametrize("wrong", [{"margin": -1}, {"margin": float("nan")}, {"correct": "x"}])
def test_a_setting_out_of_range_is_an_error(wrong):
    with pytest.raises(EvalError, match="margin"):
        Question(**wrong)


def test_too_few_units_cannot_tell_and_say_so(tmp_path):
    a = write_run(tmp_path / "a", {"defects": defects(count=2)})
    with pytest.raises(EvalError, match="too few samples"):
        compare(a, a, QUICK)


def test_instances_and_picks_are_listed_sample_by_sample(tmp_path):
    products = {"P1": unit(1, 0, 0.1), "P2": unit(0, 1, 0.1), "P3": unit(0.1, 0, 1)}
    for name, second in (("a", "P1"), ("b", "P2")):
        asks = [query("k1", "P1", products["P1"], products)]
        asks += [query("k2", "P1", products[second], products)]
        asks += [query(f"m{n}", "P3", products["P3"], products) for n in range(5)]
        found = 2 if name == "a" else 1
        images = [image(n, found if n == 3 else 2) for n in range(6)]
        write_run(tmp_path / name, {"identification": asks, "segmentation/mix": images})
        write_gallery(tmp_path / name / "gallery", products)
    result = compare(tmp_path / "a", tmp_path / "b", Question(draws=200))
    lost = {s.stream: s for s in result.lost}
    assert set(lost) == {"identification", "segmentation/mix"}
    assert (lost["identification"].key, lost["segmentation/mix"].key) == ("k2", "3")
    assert lost["identification"].b.startswith("n3: P2 first")
    assert "1 of 2 objects" in lost["segmentation/mix"].b
    assert result.samples["segmentation/mix"] == {"samples": 6, "same": 5, "lost": 1, "won": 0}


def test_a_pick_has_an_identity_and_a_verdict_and_a_stranger_must_not_be_named(tmp_path):
    right = [["P1", 0.7], ["P2", 0.2]]
    a = [
        pick("1 x", "identified", right, "nominal"),
        pick("2", "identified", right, "nominal", label="multi_pick"),
        pick("3", "unknown", [["unknown", 0.9]], "nominal", known=False),
        pick("4", "identified", right, "nominal"),
    ]
    b = [
        pick("1 x", "identified", [["P2", 0.6], ["P1", 0.3]], "uninspected"),
        pick("2", "identified", right, "multi_pick", label="multi_pick"),
        pick("3", "identified", right, "nominal", known=False),
        pick("4", "", [], "", error={"kind": "no_answer", "what": "x"}),
    ]
    runs = [RunFolder.open(write_run(tmp_path / n, {"picks": r})) for n, r in (("a", a), ("b", b))]
    keys = {r.key for r in a}
    counts, lost, won = sample_changes(*runs, "picks", keys)
    assert counts == {"samples": 8, "both_right": 2, "both_wrong": 0, "lost": 5, "won": 1}
    assert {s.key for s in lost} == {
        "1 x identity", "1 x verdict", "3 identity", "4 identity", "4 verdict",
    }  # fmt: skip
    assert [s.key for s in won] == ["2 verdict"]
    assert next(s for s in lost if s.key == "3 identity").truth.startswith("P1 (not in the")


def test_every_figure_of_every_tally_has_a_direction(tmp_path):
    products = {"P1": unit(1, 0, 0.1), "P2": unit(0, 1, 0.1)}
    asks = [query(f"k{n}", "P1", products["P1"], products) for n in range(3)]
    frames = [
        dataclasses.replace(r, key=f"{r.induct}/{k}", frame=k, time_s=float(k))
        for r in defects(count=9) for k in range(3)
    ]  # fmt: skip
    videos = [
        dataclasses.replace(r, label="open") if r.label == "multi_pick" else r for r in frames
    ]
    videos = [v for v in videos if v.label != "package_defect"]
    streams = {"identification": asks, "segmentation/mix": [image(1, 2)], "defects": frames}
    write_run(tmp_path / "run", {**streams, "videos": videos})
    write_gallery(tmp_path / "run" / "gallery", products)
    names = {n for t in tallies(RunFolder.open(tmp_path / "run")).values() for n in t.figures()}
    lost = sorted(n for n in names if not direction(n) and "chance@" not in n and "floor" not in n)
    assert len(names) > 60
    assert lost == []


@pytest.mark.parametrize(
    ("figure", "sign"),
    [
        ("image_multi_pick_recall@fpr0.01", 1), ("image_combined_fpr", -1), ("ece_floor", 0),
        ("induct_combined_auc", 1), ("false_reject_at_fa0.05_n1", -1), ("chance@1_container", 0),
        ("top_ece", -1), ("object_only_mask_mAP50_1-5", 1), ("median_seconds_to_flag", -1),
        ("something_new", 0),
    ],
)  # fmt: skip
def test_what_should_rise_and_what_should_fall(figure, sign):
    assert direction(figure) == sign


def test_without_patterns_the_headline_figures_decide():
    assert chosen("image_combined_fpr", ())
    assert not chosen("image_combined_auc", ())
    assert chosen("image_combined_auc", ("nothing", "*_auc"))


def test_holms_correction_counted_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2, 0.001]) == pytest.approx([0.2, 0.002])
    assert holm([]) == []


NAMES = [f"image_{i}_recall" for i in range(5)]


def _repeat(times, loss, units=100):
    """How often a regression is seen in runs that differ by `loss` in the first figure only."""
    seen, question = 0, Question(metric=("*",), draws=200)
    for seed in range(times):
        rng = np.random.default_rng(seed)
        hard = rng.random((units, 5))
        # Two bundles that are right about as often, on much the same samples.
        a, b = (hard + rng.normal(0, 0.1, hard.shape) < 0.8 for _ in range(2))
        b = b & ~((np.arange(5) == 0) & (rng.random(hard.shape) < loss))
        found = differences("x", Shares(a, NAMES), Shares(b, NAMES), question)
        seen += any(c.verdict == REGRESSION for c in judge(found, question))
    return seen


def test_false_alarms_are_no_more_frequent_than_alpha():
    times = 100
    assert _repeat(times, loss=0.0) <= 0.05 * times + 2 * (0.05 * 0.95 * times) ** 0.5


def test_a_large_loss_is_hardly_ever_missed():
    assert _repeat(30, loss=0.3) >= 28
