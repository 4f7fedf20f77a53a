"""What is told of single samples: which are worst, and one true sentence about each."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from in_process import answered, predict_here
from tiny_armbench import write_defects, write_picks, write_totes

from robollm.core.errors import ConfigError, EvalError, InferenceError
from robollm.core.masks import MaskWindow
from robollm.core.settings import RuntimeConfig
from robollm.data.armbench_identification import ROOT as PICKS
from robollm.data.armbench_segmentation import MIX
from robollm.data.problems import Problems
from robollm.eval import armbench
from robollm.eval.armbench import Order, evaluate, evaluate_baselines
from robollm.eval.predictors import classes_of, instance, make
from robollm.eval.records import DefectRecord, SegmentationRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.score import score
from robollm.eval.tasks import defect_score, segmentation, segmentation_score
from robollm.eval.tasks.choose import spread
from robollm.metrics.bootstrap import intervals
from robollm.metrics.rle import mask_rle, window_rle

CARD = {"data": {"split": "test"}, "predictor": {"classes": "two"}, "settings": {}}


def square(category, x, y, score=0.9, side=10):
    mask = np.zeros((40, 60), np.bool_)
    mask[y : y + side, x : x + side] = True
    return instance(category, (x, y, x + side, y + side), mask_rle(mask), score)


def outline(root, pick):
    """Give the first view of a pick an outline."""
    note = {"GT_ID": f"B{pick:03}", "segmentation": {"PickRGB": [[2, 2, 2, 8, 8, 8, 8, 2]]}}
    (root / "Picks" / f"pick{pick:04}" / "annotation.json").write_text(json.dumps(note))


def truth(*found):
    return [{k: v for k, v in f.items() if k != "score"} | {"iscrowd": 0} for f in found]


def image(key, there, found, error=None):
    return SegmentationRecord(
        key=key, file=f"{key}.jpg", hw=(40, 60), truth=truth(*there), found=found, error=error
    )


def section_of(scored):
    return scored.section(intervals(scored.tally, draws=100))


def test_images_of_one_scene_are_one_unit_of_the_intervals():
    there, stray = square("object", 5, 5), square("object", 30, 20)
    apart = [image(f"{i}", [there], [there if i % 3 else stray]) for i in range(12)]
    shared = [replace(r, scene=f"{int(r.key) // 4}") for r in apart]
    alone, grouped = (
        section_of(segmentation_score.score(iter(records), CARD, MIX))
        for records in (apart, shared)
    )
    assert (alone.units, alone.unit, grouped.units, grouped.unit) == (12, "image", 3, "scene")
    name = segmentation_score.MAIN
    assert grouped.samples == 12
    assert grouped.figures[name].value == alone.figures[name].value
    assert (alone.figures[name].cases, grouped.figures[name].cases) == (12, 3)
    assert {w.key for w in grouped.worst} == {w.key for w in alone.worst}


def test_the_worst_images_say_what_is_missed_and_what_is_false():
    a, b, c = (square("object", x, 5, score=0.9 - x / 100) for x in (0, 20, 40))
    stray = square("object", 20, 25, score=0.95)
    records = [
        image("good", [a, b], [a, b]),
        image("missed", [a, b, c], [a]),
        image("stray", [a], [a, stray]),
        image("broken", [a, b], [], error={"kind": "wrong_size", "what": "is 1x1 px"}),
    ]
    section = section_of(segmentation_score.score(iter(records), CARD, MIX))
    told = {w.key: (w.facts["outcome"], w.why) for w in section.worst}
    assert set(told) == {"missed", "stray", "broken"}
    assert told["broken"] == ("no answer", "No answer (wrong_size): is 1x1 px")
    assert told["missed"][0] == "missed instances"
    assert told["missed"][1].startswith("Of 3 objects 2 missed; of 1 finds 0 false")
    assert told["stray"][0] == "false finds"
    assert section.counts["no_answer_wrong_size"] == 1
    assert section.samples == 4
    assert next(row[:2] for row in section.tables["objects"].rows) == ("1-5", 4)


def test_instances_that_are_to_be_ignored_cost_nothing():
    a, b = square("object", 0, 5), square("object", 20, 5)
    there = truth(a, b)
    there[1]["ignore"] = 1
    record = SegmentationRecord(key="1", file="1.jpg", hw=(40, 60), truth=there, found=[a])
    section = section_of(segmentation_score.score(iter([record]), CARD, MIX))
    assert section.figures["object_only_mask_mAP50"].value == 1.0
    assert section.counts["ignored_instances"] == 1


def judged(key, frame, label, said, error=None):
    rest = {"multi_pick": 0.1, "nominal": 0.1, "package_defect": 0.1}
    return DefectRecord(
        key=f"{key}/{frame}", induct=key, frame=frame, time_s=float(frame), file="x.jpg",
        label=label, probabilities={} if error else {**rest, said: 0.8}, error=error,
    )  # fmt: skip


def test_the_worst_pictures_say_what_they_were_called():
    records = [
        judged("a", 0, "nominal", "nominal"),
        judged("a", 1, "multi_pick", "nominal"),
        judged("b", 0, "nominal", "package_defect"),
        judged("c", 0, "package_defect", "multi_pick"),
        judged("d", 0, "nominal", "nominal", error={"kind": "bug", "what": "a\nb: no"}),
    ]
    section = section_of(defect_score.score(iter(records), CARD))
    outcomes = {w.key: w.facts["outcome"] for w in section.worst}
    assert outcomes == {
        "a/1": "missed defect", "b/0": "false alarm", "c/0": "wrong defect", "d/0": "no answer",
    }  # fmt: skip
    assert section.worst[0].why == "No answer (bug): b: no"
    assert "Called nominal with probability 0.800; it is multi_pick, at 0.100." in {
        w.why for w in section.worst
    }
    rows = {row[0]: row[1:] for row in section.tables["confusion"].rows}
    assert rows["nominal"] == (0, 1, 1, 1)  # of multi_pick, nominal, package_defect, not judged
    assert section.figures["flagged_share"].value == 0.0


def test_a_video_of_both_defects_counts_for_both():
    records = [judged("v", k, "open+deconstruction", "package_defect") for k in range(2)]
    records += [judged("w", k, "nominal", "nominal") for k in range(2)]
    section = section_of(defect_score.score(iter(records), CARD, video=True))
    for label in ("open", "deconstruction"):
        assert section.figures[f"video_{label}_recall"].value == 1.0
    assert (section.unit, section.units, section.samples) == ("video", 2, 4)


def test_baselines_answer_the_same_samples_in_the_same_crops(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    outline(tmp_path / "data" / PICKS, 0)
    write_defects(tmp_path / "data", inducts=3)
    write_totes(tmp_path / "data", images=2, subsets=(MIX,))
    monkeypatch.setattr(armbench, "predict", predict_here)
    order = Order(
        data=tmp_path / "data", out=tmp_path / "run", predictor="chance",
        identification_crop="segment", defect_crop="image",
    )  # fmt: skip
    missing = evaluate_baselines(evaluate(order))
    assert "majority" in missing  # there is no training split
    run = RunFolder.open(tmp_path / "run")
    beside = score(run, draws=100).baselines
    assert {"colour-histogram", "thumbnail"} <= set(beside)
    assert set(beside) | set(missing) == set(armbench.BASELINES)
    one = RunFolder.open(run.path / "baselines" / "thumbnail")
    assert one.card["settings"] == run.card["settings"]
    assert one.keys("identification") == run.keys("identification")


@pytest.mark.parametrize("after", [0, 2])
def test_a_baseline_that_fails_costs_the_run_nothing_but_its_own_column(
    tmp_path, monkeypatch, after
):
    write_picks(tmp_path / "data", products=4, count=4)

    def falls_over(run, stream, jobs, *more, **named):
        broken = run.card["predictor"]["name"] == "thumbnail"
        predict_here(run, stream, jobs[:after] if broken else jobs, *more, **named)
        if broken:
            run.note_stream(stream, len(jobs))
            raise InferenceError("the model fell over")

    monkeypatch.setattr(armbench, "predict", falls_over)
    order = Order(data=tmp_path / "data", out=tmp_path / "run", predictor="chance")
    missing = evaluate_baselines(evaluate(order))
    assert missing["thumbnail"] == "the model fell over"
    metrics = score(RunFolder.open(tmp_path / "run"), draws=100)
    assert metrics.sections[0].samples == 4
    assert "colour-histogram" in metrics.baselines
    assert ("thumbnail" in metrics.baselines) is bool(after)
    reasons = " ".join(metrics.partial_reasons)
    assert "baseline thumbnail: the run is not complete: stopped: the model fell over" in reasons


def test_the_crop_is_the_outline_where_it_is_asked_for(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    outline(tmp_path / "data" / PICKS, 0)
    vectors = []
    for crop in ("image", "segment"):
        run = answered(
            monkeypatch, tmp_path / "data", tmp_path / crop, "chance", identification_crop=crop
        )
        vectors.append({r.key: r.vectors["n1"] for r in run.records("identification")})
    assert vectors[0]["pick0000"] != vectors[1]["pick0000"]
    assert vectors[0]["pick0002"] == vectors[1]["pick0002"]  # it has no outline
    assert run.card["problems"]["counts"]["no_outline"] == 10  # of 11 pictures
    lines = "\n".join(run.card["problems"]["lines"])
    assert "no outline in ToteWallRGB; annotation.json has GT_ID, segmentation (PickRGB)" in lines
    metrics = score(run, draws=100)
    assert not metrics.partial
    said = "crop segment (10 pictures have no outline: the whole of them)"
    assert said in metrics.sections[0].protocol


def test_a_crop_by_outlines_that_nobody_drew_is_an_error(tmp_path, monkeypatch):
    write_picks(tmp_path / "data", products=4, count=4)
    for file in (tmp_path / "data" / PICKS).glob("Picks/*/annotation.json"):
        file.write_text('{"GT_ID": "B000", "masks": {"PickRGB": []}}')
    with pytest.raises(ConfigError, match="none of 11 pictures has an outline") as e:
        answered(
            monkeypatch, tmp_path / "data", tmp_path / "run", identification_crop="segment"
        )  # fmt: skip
    assert "annotation.json has GT_ID, masks (PickRGB)" in e.value.what
    assert "--pick-crop image" in e.value.fix


def test_a_picture_gone_meanwhile_costs_its_sample_alone(tmp_path, monkeypatch):
    write_defects(tmp_path / "data", inducts=3, frames=2)

    def gone(run, stream, jobs, *rest, **more):
        (jobs[0].root / jobs[0].file).unlink()
        predict_here(run, stream, jobs, *rest, **more)

    monkeypatch.setattr(armbench, "predict", gone)
    evaluate(Order(data=tmp_path / "data", out=tmp_path / "run", predictor="oracle"))
    (section,) = score(RunFolder.open(tmp_path / "run"), draws=100).sections
    assert section.counts["no_answer_missing_image"] == 1
    assert section.counts["images_not_judged"] == 1
    assert section.figures["image_accuracy"].value == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("labels", "judged_by", "classes"),
    [
        (("tote", "object"), {}, "two"),
        (("object",), {"segmentation/object_only_mask_mAP50": 1}, "object"),
        (("object",), {"segmentation/class_agnostic_mask_mAP50": 1}, "agnostic"),
        (("object",), {}, "agnostic"),
    ],
)
def test_how_labels_were_made_is_read_from_the_bundle(labels, judged_by, classes):
    assert classes_of(labels, {"values": judged_by}) == classes


def test_an_unknown_predictor_is_refused():
    with pytest.raises(EvalError, match="no predictor is called 'x', want one of bundle, oracle"):
        make("x", RuntimeConfig(), {})


def test_a_part_is_spread_evenly_and_has_both_ends():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 5) == spread([1, 2], 0) == [1, 2]


def test_a_mask_and_its_window_have_the_same_run_lengths():
    mask = np.zeros((30, 40), np.bool_)
    mask[0:30, 3:5] = True  # two whole columns: runs that join
    mask[4:9, 20:31] = True
    whole = mask_rle(mask)
    assert whole == window_rle(MaskWindow(3, 0, mask[:, 3:31]), mask.shape)
    assert mask_rle(np.zeros((3, 3), np.bool_))["size"] == [3, 3]


def test_pictures_that_are_not_there_make_a_run_partial(tmp_path, monkeypatch):
    write_totes(tmp_path / "data")
    next((tmp_path / "data").rglob("*.jpg")).unlink()
    run = answered(monkeypatch, tmp_path / "data", tmp_path / "run")
    reasons = " ".join(score(run, draws=100).partial_reasons)
    assert "1 samples of the data can't be used: 1 missing_image" in reasons


def test_hidden_objects_may_be_spared_and_images_of_a_drop_are_told(tmp_path):
    write_totes(tmp_path, images=4, subsets=(MIX,))
    (file,) = tmp_path.rglob("test.json")
    data = json.loads(file.read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    for one in data["images"]:
        one["drop"] = one["id"] // 2
    hidden = 0
    for one in data["annotations"]:
        one["visibility"] = 0.1 if names[one["category_id"]] == "Object" and hidden < 3 else 0.9
        hidden += one["visibility"] < 0.5
    file.write_text(json.dumps(data))
    found, folder = Problems(), file.parent.parent
    every = segmentation.jobs(tmp_path, folder, MIX, "test", found)
    some = segmentation.jobs(tmp_path, folder, MIX, "test", found, min_visibility=0.2)

    def spared(jobs):
        return sum(t["ignore"] for job in jobs for t in job.truth())

    assert (spared(every), spared(some)) == (0, 3)
    scenes = [
        segmentation.SegmentationDesk(make("oracle", RuntimeConfig(), {})).run(job).scene
        for job in some
    ]
    assert scenes == [str(one["drop"]) for one in data["images"]]
    assert some[0].failed({"kind": "x", "what": "y"}).scene == scenes[0]
