"""How soon defects are flagged: sequences counted by hand, slow loops, resamples."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.core.errors import EvalError
from robollm.metrics.defects import DefectImage
from robollm.metrics.tally import Tally
from robollm.metrics.time_to_flag import FlagSequence, FlagTally, sequences


def one(key, labels, flags, seconds=None):
    """A sequence; 'x' marks a frame with a defect, or with a flag."""
    return FlagSequence(
        key, tuple(c == "x" for c in labels), tuple(c == "x" for c in flags), seconds
    )


SEQUENCES = [
    one("a", "..xx", "..x.", (0.0, 1.0, 2.0, 3.0)),  # at once
    one("b", ".xxx", "...x", (0.0, 0.5, 1.0, 2.5)),  # two frames and 2 s later
    one("c", "..x.", "x..x"),  # too early, and a frame later; no time
    one("d", "xx", "..", (0.0, 1.0)),  # never
    one("e", ".x", "x.", (0.0, 1.0)),  # only too early
    one("f", "...", ".x.", (0.0, 1.0, 2.0)),  # false alarm
    one("g", "..", ".."),  # quiet
]


def test_the_figures_are_those_counted_by_hand():
    tally: Tally = FlagTally(SEQUENCES)
    assert tally.figures() == pytest.approx(
        {
            "flagged_share": 3 / 5,
            "early_flags": 2 / 4,  # d has no frame before its defect
            "false_flag_share": 1 / 2,
            "frames_to_flag_median": 1,  # 0, 2, 1
            "frames_to_flag_p90": 1.8,
            "seconds_to_flag_median": 1,  # 0, 2
            "seconds_to_flag_p90": 1.8,
        }
    )
    assert tally.units == tuple("abcdefg")
    assert [part.sum() for part in tally.share("flagged_share")] == [3, 5]
    assert tally.share("frames_to_flag_median") is None
    assert FlagTally(SEQUENCES).counts == {
        "sequences": 7, "defect_sequences": 5, "sequences_without_time": 2,
    }  # fmt: skip
    assert FlagTally(SEQUENCES).times("frames").tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(4))
def test_resamples_and_slow_loops_give_the_same(seed):
    rng = np.random.default_rng(seed)
    some = []
    for k in range(30):
        n = int(rng.integers(2, 9))
        labels, flags = (rng.random((2, n)) < 0.3).tolist()
        seconds = tuple(np.cumsum(rng.random(n)).tolist())
        some.append(FlagSequence(f"{k}", tuple(labels), tuple(flags), seconds))
    counts = rng.integers(0, 3, 30)
    delays, waits, early, false, defects = [], [], [], [], 0
    for s in np.repeat(np.array(some, object), counts):
        if not any(s.defect):
            false.append(any(s.flagged))
            continue
        defects += 1
        first = min(i for i, d in enumerate(s.defect) if d)
        later = [i for i, f in enumerate(s.flagged) if f and i >= first]
        if first:
            early.append(any(f for i, f in enumerate(s.flagged) if i < first))
        if later:
            delays.append(later[0] - first)
            waits.append(s.seconds[later[0]] - s.seconds[first])
    found = FlagTally(some).figures(counts)
    assert found == pytest.approx(
        {
            "flagged_share": len(delays) / defects,
            "early_flags": np.mean(early),
            "false_flag_share": np.mean(false),
            "frames_to_flag_median": np.median(delays),
            "frames_to_flag_p90": np.quantile(delays, 0.9),
            "seconds_to_flag_median": np.median(waits),
            "seconds_to_flag_p90": np.quantile(waits, 0.9),
        }
    )


def test_frames_of_an_induct_are_put_in_order_of_time_and_single_ones_left_out():
    def frame(induct, label, defect, k, seconds=None):
        said = {"multi_pick": 0.0, "nominal": 1 - defect, "package_defect": defect}
        return DefectImage(induct, (label,), said, k, seconds)

    images = [
        frame("b", "open", 0.9, 0, 3.0), frame("b", "nominal", 0.1, 1, 1.0),
        frame("a", "package_defect", 0.2, 11), frame("a", "nominal", 0.8, 2, 0.5),
        DefectImage("a", ("nominal",), None, 3, 0.1), frame("single", "nominal", 0.1, 0, 0.0),
    ]  # fmt: skip
    assert sequences(images) == [
        FlagSequence("a", (False, False, True), (True, False, False), None),
        FlagSequence("b", (False, True), (False, True), (1.0, 3.0)),
    ]


def test_a_perfect_oracle_flags_all_at_once_and_nothing_early():
    quick = [one("a", "..xx", "..xx", (0.0, 1.0, 2.0, 3.0)), one("b", "..", "..", (0.0, 1.0))]
    found = FlagTally(quick).figures()
    assert found.pop("flagged_share") == 1
    assert set(found.values()) == {0.0}


def test_without_defects_there_is_no_time_and_without_sequences_no_tally():
    found = FlagTally([one("g", "..", ".x")]).figures()
    assert [k for k, v in found.items() if v == v] == ["false_flag_share"]
    with pytest.raises(EvalError, match="no sequence"):
        FlagTally([])


@pytest.mark.parametrize(
    "bad",
    [
        one("a", "x", "x"),
        one("a", "xx", "x"),
        one("a", "xx", "xx", (0.0,)),
        one("a", "xx", "xx", (1.0, 0.0)),
        one("z", "xx", "xx"),
    ],
)
def test_a_sequence_that_can_not_be_is_named(bad):
    with pytest.raises(EvalError, match=f"sequence {bad.key} has"):
        FlagTally([one("z", "xx", "x."), bad])
