"""Average precision of masks and boxes, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from instance_scenes import image, rle, truth

from robollm.core.errors import ConfigError, EvalError
from robollm.metrics.average_precision import RECALLS, THRESHOLDS, match
from robollm.metrics.bootstrap import intervals, paired
from robollm.metrics.instances import PROTOCOLS, ImageResult, InstanceTally, Protocol, Truth

ONE = {"one": Protocol({"object": 0}, {0: 0})}


def test_a_resample_without_anything_to_find_is_not_a_number():
    results = [image("full", [truth("object", (0, 0, 9, 9))]), image("empty", [])]
    tally = InstanceTally(results, ONE)
    assert tally.figures(np.array([2, 0]))["one_box_mAP"] == 0
    assert np.isnan(list(tally.figures(np.array([0, 2])).values())).all()


def test_precision_by_hand():
    """Best first: right, wrong, right. Precision is 1 up to recall .5, then 2/3."""
    far, left, right = (30, 20, 8, 8), (0, 0, 10, 10), (20, 0, 10, 10)
    results = [
        image("1", [truth("object", left), truth("object", right)], [(left, 0.9), (far, 0.8)]),
        image("2", [], []),
    ]
    tally = InstanceTally(results, ONE)
    assert tally.figures()["one_mask_mAP50"] == pytest.approx(51 / 101)
    results[0] = image("1", results[0].truth, [(left, 0.9), (far, 0.8), (right, 0.7)])
    tally = InstanceTally(results, ONE)
    want = (51 + 50 * 2 / 3) / 101
    assert tally.figures()["one_mask_mAP50"] == pytest.approx(want)
    assert tally.curve("one_mask_mAP50") == pytest.approx(np.array([1] * 51 + [2 / 3] * 50))
    assert tally.curve("one_mask_mAP50").mean() == pytest.approx(want)


def test_levels_by_hand():
    """A box of IoU .8 is right at .50 to .80, seven of ten levels."""
    results = [image("1", [truth("object", (0, 0, 10, 10))], [((0, 0, 10, 8), 0.9)])]
    got = InstanceTally(results, ONE).figures()
    assert got["one_box_mAP"] == got["one_mask_mAP"] == pytest.approx(0.7)
    assert got["one_box_mAP75"] == 1
    assert len(RECALLS) == 101
    assert [f"{t:.2f}" for t in THRESHOLDS[[0, 5, 9]]] == ["0.50", "0.75", "0.95"]


def test_a_second_find_of_one_object_is_wrong_and_of_a_crowd_is_spared():
    at = (0, 0, 10, 10)
    finds = [(at, 0.9), (at, 0.8), ((0, 0, 10, 9), 0.7)]
    other = truth("object", (30, 20, 10, 10))
    last = ((30, 20, 10, 10), 0.1)
    alone = InstanceTally([image("1", [truth("object", at), other], [*finds, last])], ONE)
    assert alone.figures()["one_box_mAP50"] == pytest.approx((51 + 50 * 2 / 4) / 101)
    crowd = truth("object", (0, 0, 10, 10), crowd=True)
    many = InstanceTally([image("1", [crowd, other], [*finds, last])], ONE)
    assert many.figures()["one_box_mAP50"] == 1


def test_a_find_takes_what_counts_before_what_is_ignored():
    scores, ious = np.array([0.9]), np.array([[0.95, 0.6]])
    got = match(scores, ious, [True, False], [False, False])
    assert [bool(got.hits[0] >> level & 1) for level in range(10)] == [True] * 3 + [False] * 7
    assert [bool(got.ignored[0] >> level & 1) for level in range(10)] == [False] * 3 + [True] * 7
    assert got.truths == 1


def oracle(truths, n=4):
    labels = {"tote": 0, "object": 1}
    return [
        image(str(i), truths, [(t.box, 0.5, labels[t.category]) for t in truths]) for i in range(n)
    ]


def test_the_truth_itself_is_exactly_1_but_four_images_make_nothing_certain():
    truths = [truth("tote", (0, 0, 50, 40)), truth("object", (3, 3, 9, 9))]
    tally = InstanceTally(oracle(truths), PROTOCOLS["two"])
    got = intervals(tally, draws=20)
    some = {n: i for n, i in got.items() if not np.isnan(i.value)}
    assert len(some) == 3 * 2 * 4
    assert {(i.value, i.high, i.cases) for i in some.values()} == {(1.0, 1.0, 4)}
    for one in some.values():  # of four images
        assert one.low == pytest.approx(0.025 ** (1 / 4), abs=1e-9)


def test_a_figure_rests_on_the_images_that_have_something_to_find():
    tote, one = truth("tote", (0, 0, 50, 40)), truth("object", (3, 3, 9, 9))
    six = [truth("object", (8 * k, 0, 7, 7)) for k in range(6)]
    images = [[tote, one], [tote], [tote], [tote, *six], [one, truth("object", (30, 0, 4, 4))]]
    tally = InstanceTally([image(str(k), i) for k, i in enumerate(images)], PROTOCOLS["two"])
    rests = {name: tally.share(name)[1].tolist() for name in tally.figures()}
    assert rests["class_agnostic_mask_mAP"] == [1] * 5
    assert rests["two_class_box_mAP50"] == rests["object_only_mask_mAP75"] == [1, 0, 0, 1, 1]
    assert rests["object_only_mask_mAP50_1-5"] == [1, 0, 0, 0, 1]
    assert rests["two_class_mask_mAP50_6-12"] == [0, 0, 0, 1, 0]
    assert rests["two_class_mask_mAP50_13-25"] == [0] * 5


def test_one_object_found_in_one_image_is_exactly_1():
    tally = InstanceTally(oracle([truth("object", (3, 3, 9, 9))], 1), PROTOCOLS["two"])
    assert tally.figures()["object_only_mask_mAP"] == 1


def test_the_mean_of_two_classes_is_of_the_tote_and_of_objects_alone():
    rng = np.random.default_rng(4)
    truths = [truth("tote", (0, 0, 50, 40)), truth("object", (3, 3, 9, 9))]
    results = [
        image(str(i), truths, [((0, 0, 50, 40), 0.9, 0), ((3, 3, 9, int(h)), rng.random(), 1)])
        for i, h in enumerate(rng.integers(4, 10, 12))
    ]
    got = InstanceTally(results, PROTOCOLS["two"]).figures()
    assert got["two_class_mask_mAP"] == pytest.approx((1 + got["object_only_mask_mAP"]) / 2)
    assert 0.2 < got["object_only_mask_mAP"] < 0.9


def test_what_a_class_agnostic_model_finds_of_a_tote_is_no_object():
    truths = [truth("tote", (0, 0, 50, 40)), truth("object", (3, 3, 9, 9))]
    results = [image("1", truths, [((0, 0, 50, 36), 0.9), ((3, 3, 9, 9), 0.8)])]
    got = InstanceTally(results, PROTOCOLS["agnostic"]).figures()
    assert got["object_only_mask_mAP"] == got["object_only_box_mAP"] == 1
    assert got["class_agnostic_mask_mAP50"] == 1
    assert got["class_agnostic_mask_mAP"] < 1


def test_a_crowd_takes_nothing_out_by_what_lies_inside_it():
    """Of a crowd's IoU only the find's own area counts; whose a find is, goes by the plain IoU."""
    tote = truth("tote", (0, 0, 50, 40), crowd=True)
    at = (3, 3, 9, 9)
    got = InstanceTally(
        [image("1", [tote, truth("object", (3, 3, 9, 10))], [(at, 0.9)])], PROTOCOLS["agnostic"]
    ).figures()
    assert got["object_only_mask_mAP50"] == 1


def test_an_image_without_prediction_counts_as_not_found():
    at = (3, 3, 9, 9)
    results = [image("1", [truth("object", at)], [(at, 1)]), image("2", [truth("object", at)])]
    got = InstanceTally(results, ONE).figures()
    assert got["one_mask_mAP"] == pytest.approx(51 / 101)


def test_groups_are_of_images_by_their_number_of_objects():
    def crowded(key, n, right):
        boxes = [(5 * i, 0, 4, 9) for i in range(n)]
        return image(key, [truth("object", b) for b in boxes], [(b, 0.9) for b in boxes[:right]])

    results = [crowded("1", 1, 1), crowded("2", 2, 1), crowded("5", 5, 0), crowded("7", 7, 7)]
    tally = InstanceTally([*results, image("0", [])], ONE, ("mask",), (2, 6, 9))
    got = tally.figures()
    assert list(got) == [
        *("one_mask_mAP", "one_mask_mAP50", "one_mask_mAP75"),
        *("one_mask_mAP50_1-2", "one_mask_mAP50_3-6", "one_mask_mAP50_7-9", "one_mask_mAP50_10+"),
    ]
    assert got["one_mask_mAP50_1-2"] == pytest.approx(67 / 101)  # recall 2/3: levels 0 to .66
    assert got["one_mask_mAP50_3-6"] == 0
    assert got["one_mask_mAP50_7-9"] == 1
    assert np.isnan(got["one_mask_mAP50_10+"])
    assert tally.curve("one_mask_mAP50_1-2").mean() == pytest.approx(67 / 101)
    without = tally.figures(np.array([0, 1, 1, 1, 1]))
    assert without["one_mask_mAP50_1-2"] == pytest.approx(51 / 101)
    across = InstanceTally(results[2:], ONE, ("mask",), (2, 6), full=(5, 7))
    assert list(across.figures())[3:] == [f"one_mask_mAP50_{g}" for g in ("1-2", "3-6", "7+", "5+")]
    assert across.figures()["one_mask_mAP50_5+"] == pytest.approx(59 / 101)  # recall 7/12
    assert across.share("one_mask_mAP50_5+")[1].tolist() == [1, 1]


def test_the_best_cut_is_where_all_images_together_have_the_best_f1():
    """At .5: 3 of 4 finds are right, of 5; F1 is 6/9. At .8 it is 4/7, at .1 6/12."""
    a, b, far = (0, 0, 9, 9), (20, 0, 9, 9), (35, 25, 9, 9)
    results = [
        image("both", [truth("object", a), truth("object", b)], [(a, 0.9), (b, 0.8), (far, 0.1)]),
        image("half", [truth("object", a), truth("object", b)], [(a, 0.5)]),
        image("none", [truth("object", a)], [(far, 0.6)]),
        image("empty", [], [(far, 0.2), (far, 0.2)]),
    ]
    tally = InstanceTally(results, ONE)
    assert tally.units == ("both", "half", "none", "empty")
    assert tally.units is tally.units  # asked for once a find: not made anew each time
    for name in ("one_mask", "one_mask_mAP50", "one_box_mAP"):
        cut = tally.at_best(name)
        assert cut.threshold == 0.5
        assert (cut.hits.tolist(), cut.finds.tolist()) == ([2, 1, 0, 0], [2, 1, 1, 0])
        assert cut.truths.tolist() == [2, 2, 1, 0]
    scores, right, unit = tally.instances("one_mask")
    assert scores.tolist() == [0.9, 0.8, 0.6, 0.5, 0.2, 0.2, 0.1]
    assert right.tolist() == [True, True, False, True, False, False, False]
    assert unit.tolist() == [0, 0, 2, 1, 3, 3, 0]


def test_equal_scores_are_cut_together():
    a, far = (0, 0, 9, 9), (35, 25, 9, 9)
    results = [
        image("1", [truth("object", a)], [(a, 0.5)]),
        image("2", [], [(far, 0.5)]),
    ]
    assert InstanceTally(results, ONE).at_best("one_box").finds.tolist() == [1, 1]


def test_an_ignored_object_costs_an_image_nothing():
    a, b = (0, 0, 9, 9), (20, 0, 9, 9)
    truths = [truth("object", a), truth("object", b, ignore=True)]
    for finds in ([(a, 0.5)], [(a, 0.5), (b, 0.6)]):
        tally = InstanceTally([image("1", truths, finds)], ONE)
        cut = tally.at_best("one_box")
        assert (cut.hits, cut.finds, cut.truths) == (1, 1, 1)
        assert tally.instances("one_box")[0].tolist() == [0.5]
        assert tally.figures()["one_box_mAP"] == 1


def test_without_any_find_or_image_there_are_still_figures():
    nothing = InstanceTally([image("1", [truth("object", (0, 0, 9, 9))])], ONE)
    assert nothing.figures()["one_box_mAP"] == 0
    assert nothing.at_best("one_box").threshold == np.inf
    assert [len(part) for part in nothing.instances("one_box")] == [0, 0, 0]
    none = InstanceTally([], ONE)
    assert none.units == ()
    assert np.isnan(none.figures()["one_box_mAP"])
    assert len(none.at_best("one_box").finds) == 0


def test_a_better_run_is_seen_by_pairs():
    rng = np.random.default_rng(4)

    def run(lost):
        at = (3, 3, 20, 20)
        low = [int(rng.integers(lost)) for _ in range(30)]
        finds = [[((3, 3, 20, 20 - k), 0.9)] for k in low]
        return InstanceTally(
            (image(str(i), [truth("object", at)], f) for i, f in enumerate(finds)), ONE, ("box",)
        )

    got = paired(run(8), run(3), draws=100)["one_box_mAP"]
    assert 0 < got.low <= got.delta <= got.high
    assert got.p < 0.05


def test_an_image_may_come_once_only():
    with pytest.raises(EvalError, match="image 1 comes twice"):
        InstanceTally([image("1", []), image("1", [])], ONE)


def test_masks_of_two_sizes_are_not_compared_in_silence():
    odd = Truth("object", (0, 0, 3, 3), rle(np.ones((30, 50))))
    with pytest.raises(EvalError, match="image 1 has masks of 30x50 and 40x50 px"):
        InstanceTally([image("1", [odd], [((0, 0, 3, 3), 0.5)])], ONE)


@pytest.mark.parametrize("name", ["two_mask_mAP", "one_mask_mAP90", "one_mask_mAP75_1-5", "x"])
def test_what_was_not_counted_is_refused_and_what_was_is_named(name):
    tally = InstanceTally([image("1", [])], ONE)
    with pytest.raises(EvalError, match="one_mask"):
        tally.curve(name)
    if not name.startswith("one_mask"):
        with pytest.raises(EvalError, match="one_mask, one_box"):
            tally.at_best(name)


def test_settings_out_of_range_are_refused():
    for wrong in ({"kinds": ("masks",)}, {"kinds": ()}, {"max_detections": 0},
                  {"groups": (5, 3)}, {"groups": (0,)}):  # fmt: skip
        with pytest.raises(ConfigError):
            InstanceTally([], ONE, **wrong)
    with pytest.raises(ValueError, match="for 0 masks"):
        ImageResult("1", (), np.zeros((1, 4)), np.zeros(1), np.zeros(1), ())


def test_a_score_that_is_not_a_number_is_an_error_and_no_silent_last_place():
    result = image("7", [truth("object", (0, 0, 9, 9))], [((0, 0, 9, 9), float("nan"))])
    with pytest.raises(EvalError, match="image 7 has a find whose score is not a number"):
        InstanceTally([result], ONE)
