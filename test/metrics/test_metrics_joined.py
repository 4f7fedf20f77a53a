"""Several tallies as one."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.core.errors import EvalError
from robollm.metrics.bootstrap import intervals
from robollm.metrics.joined import Joined
from robollm.metrics.open_set import OpenSetTally
from robollm.metrics.tally import Tally


class Flags:
    """A share, and a figure without bounds."""

    units = ("w", "x")

    def figures(self, counts=None):
        return {"flagged": 2 / 3, "seconds": 7.0}

    def share(self, name):
        return (np.array([0.0, 2.0]), np.array([1.0, 2.0])) if name == "flagged" else None


def test_each_tally_sees_its_own_units_of_one_resample():
    a = OpenSetTally([0.9, 0.8, 0.1], [0.5, 0.3, 0.2], ["x", "y", "z"], suffix="_a")
    b = OpenSetTally([0.9, 0.2, 0.6], [0.5, 0.3, 0.2], ["z", "w", "w"], suffix="_b")
    both: Tally = Joined([a, b])
    assert both.units == ("w", "x", "y", "z")
    assert both.figures() == {**a.figures(), **b.figures()}
    want = {**a.figures(np.array([0, 1, 2])), **b.figures(np.array([3, 2]))}
    assert both.figures(np.array([3, 0, 1, 2])) == want
    hits, cases = both.share("auroc_b")
    assert (hits, cases.tolist()) == (None, [2, 0, 0, 1])
    share = Joined([a, Flags()]).share("flagged")  # over x, y, z and one more
    assert [part.tolist() for part in share] == [[0, 2, 0, 0], [1, 2, 0, 0]]
    assert Joined([a, Flags()]).share("seconds") is None
    assert set(intervals(both, draws=20)) == set(want)


def test_a_figure_in_two_tallies_is_an_error():
    one = OpenSetTally([0.9], [0.5], ["x"])
    with pytest.raises(EvalError, match=r"5 figures are in two tallies: auroc, .*"):
        Joined([one, one])
