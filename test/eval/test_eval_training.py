"""What a section's caption says of the bundle's training: no more than its card can prove."""

from __future__ import annotations

import pytest

from robollm.data.armbench_segmentation import MIX, SUBSETS
from robollm.eval.records import DefectRecord, SegmentationRecord
from robollm.eval.tasks import defect_score, segmentation_score
from robollm.eval.tasks.training import learned_from

ZOOMED = SUBSETS[1]
REAL = {"name": "armbench", "kind": "armbench"}
SIM = {"name": "sim-801", "kind": "simulated"}


def told(learned, here, subset=MIX, task="segmentation"):
    card = {"data": {"split": "test", **here}, "predictor": {"trained_on": {task: learned}}}
    return learned_from(card, task, subset)


def test_a_bundle_of_other_data_is_not_said_to_know_this_training_split():
    said = told({"data": "sim-801", "subset": MIX}, REAL)
    assert said == f"trained on sim-801 {MIX}: other data than these (armbench)"


def test_a_name_alone_proves_nothing():
    said = told({"data": "armbench", "subset": MIX}, REAL)
    assert said.startswith(f"trained on armbench {MIX}: these have the same name; whether")
    assert "training split" not in said


def test_data_of_one_name_and_another_kind_are_others():
    said = told({"data": "armbench", "kind": "simulated", "subset": MIX}, REAL)
    assert said == f"trained on armbench {MIX}: simulated data, these are armbench"


def test_the_training_split_is_claimed_where_name_and_kind_agree():
    learned = {"data": "sim-801", "kind": "simulated", "subset": [MIX, ZOOMED]}
    said = told(learned, SIM)
    assert said == (
        f"trained on sim-801 {MIX} and {ZOOMED}: this subset's training split, by name and kind of "
        "the data"
    )


@pytest.mark.parametrize("here", [REAL, SIM])
def test_a_subset_that_was_not_learned_is_transfer_from_whatever_data(here):
    learned = {"data": "sim-801", "kind": "simulated", "subset": MIX}
    assert told(learned, here, ZOOMED).startswith(f"zero-shot transfer from sim-801 {MIX}: ")


def test_tasks_without_subsets_say_data_and_settings():
    learned = {"data": "sim-801", "kind": "simulated", "crop": "segment", "views": ["A", "B"]}
    said = told(learned, SIM, "", "identification")
    assert said == (
        "trained on sim-801 with crop segment, views A B: the training split of these data, by "
        "name and kind of the data"
    )
    assert "other data than these (armbench)" in told(learned, REAL, "", "identification")


def test_what_a_card_does_not_say_is_said_to_be_unknown():
    assert told({}, REAL) == "what it was trained on is not known"
    assert told({"subset": MIX}, REAL) == f"trained on data that its card doesn't name {MIX}"


def test_captions_name_the_data_of_the_training():
    learned = {"segmentation": {"data": "sim-801", "subset": MIX}, "defects": {"data": "sim-801"}}
    card = {
        "data": {"split": "test", **REAL},
        "predictor": {"classes": "two", "trained_on": learned},
    }
    image = SegmentationRecord(key="1", file="1.jpg", hw=(40, 60), truth=[], found=[])
    totes = segmentation_score.score([image], card, MIX).section({})
    assert f"trained on sim-801 {MIX}: other data than these (armbench)" in totes.protocol
    judged = {"multi_pick": 0.1, "nominal": 0.8, "package_defect": 0.1}
    record = DefectRecord(
        key="1/0", induct="1", frame=0, time_s=None, file="1.jpg", label="nominal", box=None,
        probabilities=judged,
    )  # fmt: skip
    held = defect_score.score([record], card).section({})
    assert "trained on sim-801: other data than these (armbench)" in held.protocol
