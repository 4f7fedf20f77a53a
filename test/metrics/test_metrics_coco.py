"""Average precision is the one of pycocotools, whatever is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from instance_scenes import TWO, by_coco, scene

from robollm.metrics.instances import InstanceTally


def mean(precision):
    there = precision[precision > -1]
    return there.mean() if len(there) else np.nan


@pytest.mark.parametrize("seed", range(24))
def test_figures_and_curves_are_those_of_coco(seed):
    rng = np.random.default_rng(seed)
    results = [scene(rng, str(i), ties=seed % 2 == 0) for i in range(rng.integers(1, 12))]
    most = int(rng.choice([3, 100]))
    tally = InstanceTally(results, TWO, groups=(), max_detections=most)
    got = tally.figures()
    for kind in ("mask", "box"):
        want = by_coco(results, kind, most)
        for name, levels in (("", slice(None)), ("50", slice(0, 1)), ("75", slice(5, 6))):
            name = f"all_{kind}_mAP{name}"
            assert got[name] == pytest.approx(mean(want[levels]), abs=1e-12, nan_ok=True)
            curve = [mean(want[levels, r]) for r in range(101)]
            assert tally.curve(name) == pytest.approx(np.array(curve), abs=1e-12, nan_ok=True)


def test_scenes_try_what_is_rare():
    rng = np.random.default_rng(0)
    scenes = [scene(rng, str(i), ties=True) for i in range(150)]
    truths = [t for s in scenes for t in s.truth]
    assert any(t.crowd for t in truths)
    assert any(t.ignore for t in truths)
    assert any(len(set(s.scores)) < len(s.scores) for s in scenes)
    assert any(not s.truth and not len(s.scores) for s in scenes)
    figures = InstanceTally(scenes, TWO, groups=()).figures()
    assert all(0.02 < v < 0.98 for v in figures.values())


@pytest.mark.parametrize("seed", range(8))
def test_a_resample_counts_as_the_images_that_were_drawn(seed):
    rng = np.random.default_rng(100 + seed)
    results = [scene(rng, str(i), ties=False) for i in range(8)]
    counts = rng.integers(0, 4, 8)
    drawn = [r for r, n in zip(results, counts, strict=True) for _ in range(n)]
    got = InstanceTally(results, TWO, groups=()).figures(counts)
    for kind in ("mask", "box"):
        want = mean(by_coco(drawn, kind, 100))
        assert got[f"all_{kind}_mAP"] == pytest.approx(want, abs=1e-12, nan_ok=True)
