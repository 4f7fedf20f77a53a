"""Tiny detectors for tests, and how to train them without an engine."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from tote_scenes import HW

import robollm.train
from robollm.train.detector.cascade import ToteCascadeRCNN
from robollm.train.engine.draws import Draw, collate
from robollm.train.engine.layer_decay import LayerDecay

CONFIGS = Path(robollm.train.__file__).parent / "configs"
ALL = sorted(p.name for p in CONFIGS.glob("cascade-mask-rcnn_*.py"))


def config(name: str = "cascade-mask-rcnn_beit3-small_armbench.py") -> Config:
    return Config.fromfile(CONFIGS / name)


def tiny(classes: str = "agnostic", **changes) -> Config:
    """The small config, smaller: a tiny encoder, 32 channels, half the RoIs."""
    cfg = config()
    model = cfg.model
    model.backbone.encoder.variant = "tiny"
    model.neck.update(in_channels=128, out_channels=32)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.dense_head.in_channels = 32
    roi = model.roi_head
    for part in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = 32
    roi.bbox_head[0].update(in_channels=32, fc_out_channels=64)
    roi.mask_head.update(in_channels=32, conv_out_channels=32)
    model.train_cfg.rcnn[0].sampler.num = 24
    cfg.merge_from_dict({"model.classes": classes, **changes})
    for part in ("train", "val"):
        data = cfg[f"{part}_dataloader"].dataset
        data.update(canvas_hw=HW, classes=classes, split="train", masks="rle", min_area=0.0)
    cfg.train_dataloader.dataset.jitter = None
    return cfg


def assembled(cfg: Config) -> ToteCascadeRCNN:
    """The model; an earlier test's run may have left another scope behind."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


def built(cfg: Config, seed: int = 0) -> ToteCascadeRCNN:
    torch.manual_seed(seed)
    model = assembled(cfg)
    for head in (model.rpn_head, *model.roi_head.bbox_head, *model.roi_head.mask_head):
        head.init_weights()
    return model


def batch_of(cfg: Config, root: Path, items=(0,)) -> dict:
    data = DATASETS.build({**cfg.train_dataloader.dataset, "data_root": str(root)})
    return collate([data[Draw(0, i)] for i in items])


def losses_of(model, batch: dict) -> dict[str, torch.Tensor]:
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.loss(data["inputs"], data["data_samples"])


def train(model, batch: dict, steps: int, lr: float = 1e-3) -> list[float]:
    wrapper = {"optimizer": {"type": "AdamW", "lr": lr, "betas": (0.9, 0.99)}}
    wrapper["clip_grad"] = {"max_norm": 5.0}
    optim = LayerDecay(wrapper)(model.train())
    seen = []
    for step in range(steps):
        for group in optim.optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20) * (1 - 0.9 * step / steps)
        loss, _ = model.parse_losses(losses_of(model, batch))
        optim.update_params(loss)
        seen.append(float(loss.detach()))
    return seen


def found_in(model, cfg: Config, root: Path, index: int = 0) -> dict:
    data = DATASETS.build({**cfg.val_dataloader.dataset, "data_root": str(root)})
    batch = collate([data[index]])
    return model.eval().test_step(batch)[0].to_dict()
