"""The detector's configs: they build, and they say what the papers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS, PARAM_SCHEDULERS
from tote_models import ALL, assembled, batch_of, built, config, losses_of
from tote_scenes import HW, write_totes


@pytest.mark.parametrize("name", ALL)
def test_every_config_builds(name):
    cfg = config(name)
    with torch.device("meta"):
        model = assembled(cfg)
    kinds = {"two-class": "two", "object": "object", "tote-small": "object", "armbench": "agnostic"}
    classes = next(c for word, c in kinds.items() if word in name)
    heads = [*model.roi_head.bbox_head, *model.roi_head.mask_head]
    assert {h.num_classes for h in heads} == {2 if classes == "two" else 1}
    parts = (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.val_evaluator)
    assert {p.classes for p in parts} == {classes}
    assert cfg.select.metric in METRICS.build(cfg.val_evaluator).names
    assert not [k for k in cfg if k.startswith("_")]
    sizes = {"base": 85.89e6, "large": 303.55e6, "small": 6.6e6}
    size = sum(p.numel() for p in model.backbone.parameters())
    assert size == pytest.approx(
        next(n for word, n in sizes.items() if word in name),
        rel=0.02,
    )


def test_there_is_a_config_of_each_size_and_both_kinds_of_classes():
    sizes = ("base", "large", "small")
    stems = [f"cascade-mask-rcnn_beit3-{s}_armbench" for s in sizes]
    want = [f"{s}{c}.py" for s in stems for c in ("", "-two-class")]
    ours = "cascade-mask-rcnn_tote-small_sim.py"
    assert sorted(ALL) == sorted([*want, f"{stems[2]}-object.py", ours])


def test_the_base_recipe_is_vitdets_and_robollms():
    cfg = config("cascade-mask-rcnn_beit3-base_armbench.py")
    with torch.device("meta"):
        model = assembled(cfg)
    settings = model.backbone.encoder.settings
    assert (settings.window, settings.global_blocks) == (14, (2, 5, 8, 11))
    stds = [h.bbox_coder.stds for h in model.roi_head.bbox_head]
    weights = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
    assert np.allclose(stds, 1 / np.array(weights))
    assert [c.assigner.pos_iou_thr for c in cfg.model.train_cfg.rcnn] == [0.5, 0.6, 0.7]
    assert {h.loss_bbox.type for h in cfg.model.roi_head.bbox_head} == {"L1Loss"}
    assert cfg.model.roi_head.stage_loss_weights == [1 / 3] * 3
    assert cfg.optim_wrapper.optimizer.lr == 2e-4
    assert (cfg.train_cfg.max_epochs, cfg.select.patience) == (50, 5)
    assert config("cascade-mask-rcnn_beit3-large_armbench.py").optim_wrapper.paramwise_cfg == {
        "layer_decay": 0.8
    }


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_rate_falls_before_early_stopping_could_end_the_run(size):
    cfg = config(f"cascade-mask-rcnn_beit3-{size}_armbench.py")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    steps, rates = 2000, []
    made = [
        PARAM_SCHEDULERS.build({"end": steps, **one, "optimizer": optimizer})
        for one in cfg.param_scheduler
    ]
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for one in made:
            one.step()
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.96, abs=0.01)
    assert rates[steps // 2] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] < 1e-5


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("totes")
    write_totes(root, images=1)
    return root


def test_three_stages_with_windows_and_layer_norm_heads_make_a_step(root):
    """The base recipe, with a tiny encoder and narrow heads, on a small canvas."""
    cfg = config("cascade-mask-rcnn_beit3-base_armbench.py")
    cfg.model.backbone.encoder = {
        "type": "Beit3Encoder", "variant": "tiny", "window": 4, "global_blocks": (1, 3),
    }  # fmt: skip
    cfg.model.neck.update(in_channels=128, out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    roi = cfg.model.roi_head
    for part in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = 16
    for head in roi.bbox_head:
        head.update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
    roi.mask_head.update(in_channels=16, conv_out_channels=16)
    cfg.train_dataloader.dataset.update(canvas_hw=HW, jitter=None)
    model = built(cfg)
    loss, log = model.parse_losses(losses_of(model, batch_of(cfg, root)))
    loss.backward()
    assert {"s0.loss_mask", "s1.loss_bbox", "s2.loss_cls"} <= set(log)
    assert all(p.grad is not None for p in model.parameters())
