"""Detectors with random weights that find things, and what MMDetection itself makes of a map."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from numpy.typing import NDArray
from onnx_kit import load

import robollm.train
import robollm.train.model  # registers NoBackbone
from robollm.export.cascade_graph import build_proposals, build_rois, default_proposals
from robollm.train.detector.cascade import DetDataSample, ToteCascadeRCNN

CONFIGS = Path(robollm.train.__file__).parent / "configs"
SMALL = "cascade-mask-rcnn_beit3-small_armbench.py"
OFFICIAL = "cascade-mask-rcnn_beit3-base_armbench.py"
PATCH, DIM = 16, 24
CANVAS = (96, 128)
Found = dict[str, NDArray[Any]]


class Given(torch.nn.Module):
    """A backbone whose image is the map itself."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x,)


def config(
    name: str = SMALL, *, channels: int = 16, fc: int = 32, classes: str = "agnostic"
) -> ConfigDict:
    """A detector's config, narrower, and with fewer boxes."""
    model = copy.deepcopy(Config.fromfile(CONFIGS / name).model)
    model.classes, model["backbone"] = classes, {"type": "NoBackbone"}
    model.pop("dense_head", None)
    model.test_cfg.rpn.update(nms_pre=200, max_per_img=100)
    model.test_cfg.rcnn.max_per_img = 30
    model.neck.update(in_channels=DIM, out_channels=channels)
    model.rpn_head.update(in_channels=channels, feat_channels=channels)
    roi = model.roi_head
    for part in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = channels
    for head in roi.bbox_head:
        head.update(in_channels=channels, fc_out_channels=fc)
        if head.type == "Shared4Conv1FCBBoxHead":
            head.conv_out_channels = channels
    roi.mask_head.update(in_channels=channels, conv_out_channels=channels)
    if "num_groups" in roi.mask_head.norm_cfg:
        roi.mask_head.norm_cfg.num_groups = 4
    return model


def lively(cfg: Any, seed: int = 0) -> ToteCascadeRCNN:
    """Build it, with weights so spread out that scores, boxes and masks differ from box to box."""
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg)
    model.backbone = Given()

    def draw(layer: torch.nn.Module, spread: float) -> None:
        fan_in = layer.weight[0].numel()
        torch.nn.init.normal_(layer.weight, std=spread / fan_in**0.5, generator=rng)
        torch.nn.init.normal_(layer.bias, std=0.1 * spread, generator=rng)

    for name, layer in model.named_modules():
        if isinstance(layer, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            torch.nn.init.normal_(layer.weight, 1.0, 0.2, generator=rng)
            torch.nn.init.normal_(layer.bias, 0.0, 0.2, generator=rng)
        elif name.endswith(("rpn_cls", "fc_cls", "conv_logits")):
            draw(layer, 2.0 if "conv" in name else 4.0)
        elif name.endswith(("rpn_reg", "fc_reg")):
            draw(layer, 0.5 if "rpn" in name else 2.0)
        elif isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)) and layer.bias is not None:
            draw(layer, 1.5)
    return model.eval()


def smooth_map(seed: int, hw: tuple[int, int] = CANVAS, dim: int = DIM) -> NDArray[np.float32]:
    """A map with large structures, as an encoder's has."""
    rng = np.random.default_rng(seed)
    h, w = hw[0] // PATCH, hw[1] // PATCH
    coarse = torch.from_numpy(rng.normal(size=(1, dim, 3, 4)).astype(np.float32))
    large = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bicubic")
    return (2 * large.numpy() + rng.normal(size=large.shape) * 0.5).astype(np.float32)


@torch.no_grad()
def expected(model: ToteCascadeRCNN, features: NDArray[Any], hw: tuple[int, int]) -> Found:
    """MMDetection's own prediction, in canvas px, and the masks before they are pasted."""
    sample = DetDataSample(
        metainfo={
            "img_shape": hw, "ori_shape": hw, "pad_shape": hw, "batch_input_shape": hw,
            "scale_factor": (1.0, 1.0),
        }
    )  # fmt: skip
    x = torch.from_numpy(features)
    found = model.predict(x, [sample], rescale=False)[0].pred_instances
    n = len(found.scores)
    masks = torch.zeros(0, 28, 28)
    if n:
        rois, levels = torch.cat([torch.zeros(n, 1), found.bboxes], 1), model.extract_feat(x)
        heads = range(model.roi_head.num_stages)
        each = [model.roi_head._mask_forward(i, levels, rois)["mask_preds"] for i in heads]
        mean = torch.stack(each).sigmoid().mean(0)
        masks = mean[:, 0] if mean.shape[1] == 1 else mean[torch.arange(n), found.labels]
    parts = {"boxes": found.bboxes, "scores": found.scores, "labels": found.labels, "masks": masks}
    return {k: v.numpy() for k, v in parts.items()}


def exported(model: ToteCascadeRCNN, hw: tuple[int, int] = CANVAS) -> Callable[..., Found]:
    """Both graphs as one function from a map; `proposals` as the detector was validated."""
    propose = load(build_proposals(model, canvas_hw=hw, patch=PATCH))
    detect = load(build_rois(model, canvas_hw=hw))

    def run(features: NDArray[Any], proposals: int = default_proposals(model)) -> Found:
        limits = {"proposals": np.array([proposals]), "score_min": np.zeros(1, np.float32)}
        return detect(**propose(map=features), **limits)

    return run


def same(got: Found, want: Found) -> None:
    """Raise unless two detections are equal, up to rounding."""
    assert got["labels"].tolist() == want["labels"].tolist()
    np.testing.assert_allclose(got["boxes"], want["boxes"], atol=1e-2, rtol=0)
    for name in ("scores", "masks"):
        np.testing.assert_allclose(got[name], want[name], atol=1e-4, rtol=0)
