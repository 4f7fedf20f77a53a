"""After the warm-up nothing that a first tote or pick needs is new to a session."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime.default_bundle import find_bundle
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.session import Session
from robollm.runtime.warm_up import patchwork

MODES = ["crops", "tote"]


@pytest.fixture
def shapes(monkeypatch):
    """(file, its inputs' shapes) of every run of a session, in their order."""
    seen = []
    run = Session.run

    def watched(self, tensors):
        seen.append((self._name, tuple(tensors[name].shape for name in self.inputs)))
        return run(self, tensors)

    monkeypatch.setattr(Session, "run", watched)
    return seen


def config_of(folder, **settings):
    return RuntimeConfig(bundle=str(folder), threads=1, allow_untrained=True, **settings)


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 110, 3), np.uint8)
    return Frame(pixels, "rgb", seed, stream=f"camera {seed}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("most", [1, 2, 3, 7])
@pytest.mark.parametrize("view_fusion", ["fused", "max"])
def test_a_first_tote_and_pick_bring_no_shape_that_a_session_has_not_seen(
    whole, shapes, mode, most, view_fusion
):
    fresh = Perceiver(config_of(whole, crop_features=mode, batch_max=most))
    fresh.warm_up()
    warm = set(shapes)
    shapes.clear()
    tote = picture(1)
    assert len(fresh.segment(tote, score_min=0.0)) > 0
    fresh.look([Region(tote, (10.0 * i, 0, 10.0 * i + 40, 80)) for i in range(3)])
    for n in (3, 2, 1):
        views = {v: Region(picture(10 * n + i)) for i, v in enumerate(fresh.fused_views[:n])}
        fresh.embed_views(views, view_fusion=view_fusion)
        fresh.inspect([Region(picture(100 * n + i)) for i in range(n)])
    assert {name for name, _ in shapes} >= {"backbone.onnx", "rois.onnx", "defects.onnx"}
    assert set(shapes) <= warm


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("most", [2, 3, 7])
def test_the_backbone_is_warmed_at_every_number_of_crops_in_either_mode(whole, shapes, mode, most):
    fresh = Perceiver(config_of(whole, crop_features=mode, batch_max=most))
    fresh.warm_up()
    batches = {s[0] for name, s in shapes if name == "backbone.onnx"}
    crop = fresh.bundle.crop.hw
    assert {s[0] for s in batches if s[2:] == crop} == {n for n in (1, 2, 3, most) if n <= most}
    assert (1, 3, *fresh.bundle.tote.hw) in batches


def test_where_a_run_takes_one_crop_the_heads_numbers_cost_no_more_runs(whole):
    fresh = Perceiver(config_of(whole, batch_max=1))
    fresh.warm_up()
    assert fresh.backbone.runs == 2, "a tote and a crop"


@pytest.mark.parametrize("which", ["sketch", "shipped"])
def test_the_mask_head_is_warmed_on_instances(sketch_bundle, monkeypatch, which):
    found = []
    fresh = Perceiver(config_of(sketch_bundle if which == "sketch" else find_bundle("")))
    run = fresh._segmenter._rois.run
    monkeypatch.setattr(fresh._segmenter._rois, "run", lambda t: found.append(run(t)) or found[-1])
    fresh.warm_up()
    (boxes, _, _, masks) = found[0]
    assert len(boxes) == len(masks) > 0


@pytest.mark.parametrize("hw", [(16, 16), (100, 37), (640, 640)])
def test_the_picture_has_the_size_that_was_asked_for(hw):
    frame = patchwork(hw)
    assert frame.hw == hw
    assert frame.pixels.flags.c_contiguous
