"""What a station published, counted by hand."""

from __future__ import annotations

import math

import pytest

from robollm.core.errors import EvalError
from robollm.eval.records import PickRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import score, tallies
from robollm.eval.station_tally import PickShares, said_of

DEFECTS = {"multi_pick": 0.1, "nominal": 0.8, "package_defect": 0.1}


def named(decision: str, *ranked: tuple[str, float]) -> dict:
    return {"decision": decision, "ranked": [list(r) for r in ranked], "views": [], "reason": ""}


def verdict(decision: str, score: float = 0.7) -> dict:
    missing = [["tote_wall", "dark"]] if decision == "uninspected" else []
    return {"decision": decision, "ranked": [[decision, score]], "inspected": [],
            "missing": missing}  # fmt: skip


def record(key, product, label, identification, judged, *, known=True, **more) -> PickRecord:
    truth = {"product_id": product, "in_manifest": known, "container": "c", "label": label,
             "views": {"on_arm_low": label} if label else {}, "view_frames": {}}  # fmt: skip
    seen = {"view": "on_arm_low", "stamp_ns": 10, "probabilities": DEFECTS, "box": [0, 0, 9, 9],
            "reason": ""}  # fmt: skip
    filled = {"evidence": [seen], **more}
    return PickRecord(key=key, bag="b", truth=truth, identification=identification,
                      verdict=judged, **filled)  # fmt: skip


PICKS = [
    record("p1", "A", "nominal", named("identified", ("A", 0.9), ("B", 0.05)), verdict("nominal")),
    record("p2", "A", "multi_pick", named("identified", ("B", 0.8), ("A", 0.1)),
           verdict("nominal", 0.6)),
    record("p3", "A", "multi_pick", named("ambiguous", ("ambiguous", 0.9), ("C", 0.5), ("B", 0.3),
           ("A", 0.1)), verdict("multi_pick")),
    record("p4", "A", "package_defect", named("unknown", ("unknown", 0.9), ("D", 0.01)),
           verdict("uninspected", 1.0)),
    record("p5", "S", "nominal", named("identified", ("B", 0.9)), verdict("package_defect"),
           known=False),
    record("p6", "S", "nominal", named("not_in_manifest", ("not_in_manifest", 0.8), ("S", 0.7)),
           verdict("nominal"), known=False),
    record("p7", "A", "multi_pick", None, None, error={"kind": "no_answer", "what": "nothing"},
           evidence=[]),
]  # fmt: skip


def test_published_answers_are_counted_by_hand():
    found = PickShares([said_of(p) for p in PICKS]).figures()
    known = 5  # p1 to p4 and p7
    assert found["recall@1_published"] == 1 / known
    assert found["recall@2_published"] == 2 / known
    assert found["recall@3_published"] == 3 / known
    assert found["identified_share"] == 2 / known
    assert found["identified_precision"] == 1 / 3
    assert found["strangers_rejected"] == 1 / 2
    assert found["strangers_named"] == 1 / 2
    assert found["verdict_multi_pick_precision"] == 1
    assert found["verdict_multi_pick_recall"] == 1 / 3  # without an answer: not found
    assert found["verdict_multi_pick_fpr"] == 0
    assert math.isnan(found["verdict_package_defect_recall"])  # the only one was not inspected
    assert found["verdict_package_defect_fpr"] == 1 / 5  # p7 is no negative
    assert found["verdict_combined_precision"] == 1 / 2
    assert found["verdict_combined_recall"] == 1 / 3
    assert found["verdict_combined_fpr"] == 1 / 3
    assert found["verdict_accuracy"] == 3 / 6
    answered_defects = 3  # p2 to p4; p7 has no answer
    assert found["verdict_false_accept"] == 1 / answered_defects
    assert found["uninspected_share"] == 1 / 6
    assert found["uninspected_share_defects"] == 1 / answered_defects


def test_a_pick_without_an_answer_makes_no_figure_better():
    lost = [record(f"e{k}", product, label, None, None, known=known,
                   error={"kind": "no_answer", "what": "nothing"}, evidence=[])
            for k, (product, label, known) in enumerate(
                [("A", "nominal", True), ("A", "multi_pick", True), ("S", None, False),
                 ("S", "package_defect", False), (None, "nominal", None)])]  # fmt: skip
    before = PickShares([said_of(p) for p in PICKS]).figures()
    after = PickShares([said_of(p) for p in [*PICKS, *lost]]).figures()
    small = ("_fpr", "false_accept", "uninspected_share", "uninspected_share_defects")
    for name, value in before.items():
        if name.endswith(small):
            assert after[name] >= value, name
        elif not math.isnan(value):
            assert after[name] <= value, name


def test_a_share_tells_its_hits_and_cases_and_a_resample_weighs_them():
    import numpy as np

    tally = PickShares([said_of(p) for p in PICKS])
    assert [part.sum() for part in tally.share("identified_precision")] == [1, 3]
    twice = np.array([3, 0, 0, 0, 1, 0, 0])
    assert tally.figures(twice)["identified_precision"] == 3 / 4
    nothing = tally.figures(np.zeros(7, np.int64))
    assert nothing.keys() == tally.figures().keys()
    assert all(math.isnan(v) for v in nothing.values())


def test_verdicts_alone_have_no_figures_of_products():
    some = [record(f"p{i}", "A", "nominal", None, verdict("nominal")) for i in range(3)]
    found = PickShares([said_of(p) for p in some]).figures()
    assert not [name for name in found if "published" in name or "strangers" in name]
    assert found["verdict_accuracy"] == 1


def test_no_pick_or_the_same_pick_twice_is_refused():
    with pytest.raises(EvalError, match="want one or more"):
        PickShares([])
    with pytest.raises(EvalError, match="2 picks with 1 keys"):
        PickShares([said_of(PICKS[0])] * 2)


CARD = {
    "source": "bag", "data": {"root": "/", "name": "b", "split": ""},
    "predictor": {"name": "bundle", "sha256": "0"}, "settings": {},
}  # fmt: skip


def filled(path, picks):
    with RunFolder.create_or_resume(path, CARD) as run:
        with run.journal("picks") as journal:
            for one in picks:
                journal.append(one)
        run.note_stream("picks", len(picks))
    return RunFolder.open(path)


def test_picks_of_one_product_are_drawn_together(tmp_path):
    def found(name, *products):
        rows = [
            record(f"p{k}", product, "nominal",
                   named("identified", (product if k % 4 < 2 else "B", 0.9)), verdict("nominal"))
            for k, product in enumerate(products)
        ]  # fmt: skip
        (section,) = score(filled(tmp_path / name, rows), draws=200).sections
        return section, section.figures["recall@1_published"]

    alike, few = found("alike", *[f"A{k // 2}" for k in range(24)])
    other, many = found("other", *[f"A{k}" for k in range(24)])
    unknown, _ = found("unknown", *["A"] * 4, *[None] * 2)
    assert (alike.unit, alike.units, few.cases) == ("product", 12, 12)
    assert (other.unit, other.units, many.cases) == ("pick", 24, 24)
    assert (unknown.unit, unknown.units) == ("product", 3)
    assert few.value == many.value == 0.5
    assert few.high - few.low > 1.2 * (many.high - many.low)


def test_a_run_of_picks_becomes_a_section_with_tables_and_the_worst_first(tmp_path):
    run = filled(tmp_path / "run", PICKS)
    (section,) = score(run, draws=100).sections
    assert (section.task, section.subset, section.samples, section.unit) == (
        "station", "picks", 7, "product",
    )  # fmt: skip
    assert section.tables["decisions"].rows == (
        ("in the manifest", 1, 1, 1, 1, 0, 1),
        ("not in the manifest", 0, 1, 0, 0, 1, 0),
    )
    assert section.tables["verdicts"].rows == (
        ("multi_pick", 1, 1, 0, 0, 1),
        ("nominal", 0, 2, 1, 0, 0),
        ("package_defect", 0, 0, 0, 1, 0),
    )
    assert [(w.key, w.facts["outcome"]) for w in section.worst] == [
        ("p7", "no answer"), ("p5", "wrong product"), ("p2", "missed defect"),
    ]  # fmt: skip
    assert section.figures["image_combined_fpr"].value == 0  # the evidence says nominal
    assert section.figures["image_combined_recall"].value == 0
    assert section.counts["uninspected"] == 1
    assert section.counts["strangers"] == 2
    assert section.counts["named_without_tote_image"] == 6  # these records name no view
    assert section.counts["views_not_inspected"] == 1
    assert section.counts["picks_left_out_of_ece_product"] == 1  # p7: no answer
    assert section.figures["ece_product"].value > 0
    assert set(tallies(run)) == {("station", "picks")}


def test_a_perfect_station_has_perfect_figures(tmp_path):
    def sure(label):
        return {k: float(k == label) for k in DEFECTS}

    picks = []
    for i, label in enumerate(["nominal", "multi_pick", "package_defect"] * 4):
        seen = [{"view": "on_arm_low", "stamp_ns": 10 + i, "probabilities": sure(label),
                 "box": [0, 0, 9, 9], "reason": ""}]  # fmt: skip
        picks.append(record(f"p{i}", "A", label, named("identified", ("A", 1.0)),
                            verdict(label, 1.0), evidence=seen))  # fmt: skip
    picks.append(record("s", "S", None, named("unknown", ("unknown", 1.0)), verdict("nominal"),
                        known=False, evidence=[]))  # fmt: skip
    run = filled(tmp_path / "run", picks)
    (section,) = score(run, draws=100).sections
    zero = ("fpr", "ece_top", "ece_product", "brier_top", "false_accept", "uninspected_share")
    one = ("recall", "precision", "accuracy", "_auc", "_ap", "rejected", "recall@1_published")
    for name, interval in section.figures.items():
        if name.endswith(zero) and not name.startswith("ece_floor"):
            assert interval.value == 0, name
        elif name.endswith(one):
            assert interval.value == 1, name


def test_later_pictures_tell_how_soon_a_defect_is_flagged(tmp_path):
    labels = ["nominal", "package_defect", "package_defect"]
    said = ["nominal", "nominal", "package_defect"]
    frames = [
        {"view": "on_arm_low", "stamp_ns": 10**9 * (k + 1), "label": label,
         "probabilities": {c: float(c == s) for c in DEFECTS}}
        for k, (label, s) in enumerate(zip(labels, said, strict=True))
    ]  # fmt: skip
    picks = [*PICKS, record("film", "A", "nominal", PICKS[0].identification, verdict("nominal"),
                            frames=frames[1:], evidence=[
        {"view": "on_arm_low", "stamp_ns": 10**9, "probabilities": DEFECTS, "box": [0, 0, 1, 1],
         "reason": ""}])]  # fmt: skip
    run = filled(tmp_path / "run", picks)
    (section,) = score(run, draws=100).sections
    assert section.figures["flagged_share"].value == 1
    assert section.figures["frames_to_flag_median"].value == 1
    assert section.figures["seconds_to_flag_median"].value == 1.0
    assert section.counts["sequences"] == 1
