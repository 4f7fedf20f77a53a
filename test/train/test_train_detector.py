"""The detector: pyramid, fast layers, autocast, and that it learns."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import METRICS
from mmengine.structures import InstanceData
from torch import nn
from tote_models import batch_of, built, found_in, losses_of, tiny, train
from tote_scenes import HW, write_totes

from robollm.core.errors import ConfigError
from robollm.train.detector import ops
from robollm.train.detector.cascade import DenseHead, ToteCascadeRCNN
from robollm.train.detector.simple_fpn import SimpleFPN
from robollm.train.detector.speed import speed_up

ops.prepare()
from mmcv.ops import RoIAlign  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("totes")
    write_totes(root, images=2)
    return root


# ---------------------------------------------------------------------------------------------
# It learns


def test_twenty_steps_on_one_scene_lower_the_loss(root):
    cfg = tiny()
    model = built(cfg)
    seen = train(model, batch_of(cfg, root), 20)
    assert np.mean(seen[-3:]) < 0.75 * np.mean(seen[:3])


def test_two_hundred_steps_learn_one_scene_by_heart(root):
    cfg = tiny()
    model = built(cfg)
    train(model, batch_of(cfg, root), 200)
    metric = METRICS.build({**cfg.val_evaluator, "groups": ()})
    metric.process(None, [found_in(model, cfg, root)])
    scores = metric.evaluate(1)
    assert scores["class_agnostic_mask_mAP50"] > 0.9
    assert scores["class_agnostic_box_mAP50"] > 0.9


def test_a_blank_image_has_few_detections_after_a_little_training(root):
    cfg = tiny()
    model = built(cfg)
    batch = batch_of(cfg, root, (0, 2))  # a scene, and an image without annotations
    train(model, batch, 40)
    assert (found_in(model, cfg, root, 2)["pred_instances"]["scores"] > 0.5).sum() <= 1


@pytest.mark.parametrize("classes", ["agnostic", "two", "object"])
def test_every_class_mapping_gives_finite_losses_and_gradients(root, classes):
    cfg = tiny(classes)
    model = built(cfg)
    loss, _ = model.parse_losses(losses_of(model, batch_of(cfg, root, (0, 1, 2))))
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert torch.isfinite(loss)
    assert not without
    assert model.roi_head.bbox_head[0].fc_cls.out_features == (3 if classes == "two" else 2)


def test_a_batch_without_any_annotation_trains_every_parameter_that_it_can(root):
    cfg = tiny()
    model = built(cfg)
    loss, log = model.parse_losses(losses_of(model, batch_of(cfg, root, (2, 2))))
    loss.backward()
    assert torch.isfinite(loss)
    assert log["s0.loss_mask"] == 0
    assert log["loss_rpn_bbox"] == 0
    # DDP waits for every parameter's gradient.
    assert all(p.grad is not None for p in model.parameters())


def test_under_autocast_heads_give_float32_and_the_loss_stays_near(root):
    cfg = tiny()
    model = built(cfg)
    batch = batch_of(cfg, root, (0, 1))
    seen = {}
    for head in (model.rpn_head, model.roi_head.bbox_head[0], model.roi_head.mask_head[0]):
        head.register_forward_hook(lambda m, _, out: seen.__setitem__(type(m).__name__, out))
    torch.manual_seed(1)
    exact, _ = model.parse_losses(losses_of(model, batch))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = model.parse_losses(losses_of(model, batch))
        levels = model.extract_feat(torch.zeros(1, 3, *HW))
    rough.backward()
    assert all(level.dtype == torch.float32 for level in levels)
    assert all(level.is_contiguous() for level in levels)
    assert seen["RPNHead"][0][0].dtype == seen["RPNHead"][1][-1].dtype == torch.float32
    assert seen["Shared2FCBBoxHead"][1].dtype == torch.float32
    assert seen["FCNMaskHead"].dtype == torch.float32
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.1)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_our_loss_is_mmdetections_own(root):
    cfg = tiny(**{"model.dense_head": None})
    model = built(cfg)
    batch = batch_of(cfg, root, (0, 1))
    torch.manual_seed(3)
    ours = losses_of(model, batch)
    torch.manual_seed(3)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    theirs = super(ToteCascadeRCNN, model).loss(data["inputs"], data["data_samples"])
    assert ours.keys() == theirs.keys()
    a, b = (float(model.parse_losses(x)[0].detach()) for x in (ours, theirs))
    assert a == pytest.approx(b, rel=1e-6)


# ---------------------------------------------------------------------------------------------
# Parts


@pytest.mark.parametrize("halve", ["max_pool", "conv"])
@pytest.mark.parametrize("strides", [(4, 8, 16, 32, 64), (8, 16, 32, 64), (16, 32), (32, 64)])
def test_the_pyramid_has_the_strides_that_were_asked_for(strides, halve):
    neck = SimpleFPN(16, 8, strides=strides, halve=halve)
    out = neck((torch.randn(2, 16, 8, 12),))
    assert [tuple(x.shape) for x in out] == [(2, 8, 128 // s, 192 // s) for s in strides]
    assert all(x.is_contiguous() and x.dtype == torch.float32 for x in out)


def test_roi_align_of_a_level_is_that_of_its_contiguous_copy_whatever_its_strides():
    level = SimpleFPN(16, 8)((torch.randn(1, 16, 8, 8),))[0].detach()
    permuted = level.contiguous(memory_format=torch.channels_last)
    assert level.is_contiguous()
    assert not permuted.is_contiguous()
    rois = torch.tensor([[0, 3.0, 5.0, 70.0, 90.0]])
    assert torch.equal(RoIAlign(7, 0.25, 0)(level, rois), RoIAlign(7, 0.25, 0)(permuted, rois))


def test_the_finest_level_is_two_transposed_convolutions_as_in_vitdet():
    neck = SimpleFPN(16, 8)
    shapes = {n: tuple(p.shape) for n, p in neck.named_parameters() if n.startswith("scales")}
    assert shapes == {
        "scales.0.0.weight": (16, 8, 2, 2),
        "scales.0.0.bias": (8,),
        "scales.0.1.weight": (8,),
        "scales.0.1.bias": (8,),
        "scales.0.3.weight": (8, 4, 2, 2),
        "scales.0.3.bias": (4,),
        "scales.1.0.weight": (16, 8, 2, 2),
        "scales.1.0.bias": (8,),
    }


@pytest.mark.parametrize(
    "settings", [{"strides": ()}, {"strides": (8, 32)}, {"strides": (12, 24)}, {"halve": "mean"}]
)
def test_a_pyramid_that_cannot_be_built_is_refused(settings):
    with pytest.raises(ConfigError, match="strides"):
        SimpleFPN(16, 8, **settings)


def test_levels_that_contradict_the_anchors_are_refused():
    with pytest.raises(ConfigError, match="anchors"):
        built(tiny(**{"model.neck.strides": [4, 8, 16, 32]}))


def test_fast_layers_keep_names_and_values_and_give_the_same():
    torch.manual_seed(0)
    slow = nn.Sequential(
        nn.Conv2d(6, 8, 1),
        nn.ConvTranspose2d(8, 5, 2, stride=2),
        nn.Conv2d(5, 4, 3, padding=1),
        nn.ConvTranspose2d(4, 4, 2, stride=2, bias=False),
        nn.Conv2d(4, 4, 1, bias=False, groups=2),
        nn.Conv2d(4, 3, 3, stride=3),
    )
    fast = copy.deepcopy(slow)
    assert speed_up(fast) == 3
    assert speed_up(fast) == 0
    a, b = slow.state_dict(), fast.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(a[k], b[k]) for k in a)
    slow.load_state_dict(b)
    x = torch.randn(2, 6, 9, 7)
    outs, grads = [], []
    for model in (slow, fast):
        out = model(x)
        outs.append(out)
        grads.append(torch.autograd.grad(out.square().sum(), list(model.parameters())))
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_fast_detector_has_the_weights_of_the_slow_one_and_finds_the_same(root):
    slow = built(tiny()).eval()
    fast = built(tiny(**{"model.fast": True})).eval()
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(1, 3, *HW)
    for a, b in zip(slow.extract_feat(x), fast.extract_feat(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for a, b in zip(slow.rpn_head(slow.extract_feat(x)), fast.rpn_head(fast.extract_feat(x)),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-4)


def masked(masks: np.ndarray) -> InstanceData:
    return InstanceData(masks=BitmapMasks(masks, *masks.shape[1:]))


def test_the_dense_loss_teaches_nothing_where_an_ignored_instance_lies_on_top():
    masks = np.zeros((3, 32, 48), np.uint8)
    masks[0] = 1  # a tote
    masks[1, 0:16, 0:16] = 1  # ignored: cells 0 and 1 of two rows
    masks[2, 0:8, 0:8] = 1  # an object on it
    sample = DetDataSample(gt_instances=masked(masks[[0, 2]]), ignored_instances=masked(masks[1:2]))
    torch.manual_seed(0)
    head = DenseHead(4, 8)
    level = torch.randn(1, 4, 4, 6, requires_grad=True)
    sum(head.loss(level, [sample]).values()).backward()
    taught = level.grad[0].abs().sum(0) > 0
    want = torch.ones(4, 6, dtype=torch.bool)
    want[0, 1] = want[1, 0] = want[1, 1] = False
    assert torch.equal(taught, want)


def test_the_dense_loss_is_the_loop():
    masks = np.zeros((3, 32, 48), np.uint8)
    masks[0, :, :] = 1  # under the others, though it comes first
    masks[1, 0:16, 0:24] = 1
    masks[2, 8:24, 16:40] = 1
    torch.manual_seed(0)
    head = DenseHead(4, 8)
    level = torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        got = head.loss(level, [DetDataSample(gt_instances=masked(masks))])
    labels = np.full((4, 6), 0)
    # 2 and 3 are of equal size: the later lies on top
    labels[0:2, 0:3], labels[1:3, 2:5] = 1, 2
    out = head.predict(level)[0].detach().numpy()
    edge = np.zeros((4, 6))
    for y in range(4):
        for x in range(6):
            near = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            here = labels[y, x]
            edge[y, x] = any(0 <= j < 4 and 0 <= i < 6 and labels[j, i] != here for j, i in near)
    want = F.binary_cross_entropy_with_logits(torch.tensor(out[1]).double(), torch.tensor(edge))
    assert float(got["loss_dense_edge"]) == pytest.approx(float(want), rel=1e-5)
    fg = F.binary_cross_entropy_with_logits(torch.tensor(out[0]), torch.ones(4, 6))
    assert float(got["loss_dense_fg"]) == pytest.approx(float(fg), rel=1e-5)
    total = 0.0
    for y in range(4):
        for x in range(6):
            cells = np.argwhere(labels == labels[y, x])
            for value, way in zip(out[2:, y, x], (cells.mean(0) - (y, x)) / 4, strict=True):
                d = abs(value - way)
                total += 0.5 * d * d if d < 1 else d - 0.5
    assert float(got["loss_dense_centre"]) == pytest.approx(0.5 * total / 24, rel=1e-4)
