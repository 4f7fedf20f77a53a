"""Cascade Mask R-CNN for totes: MMDetection's, safe under autocast, with a dense loss beside."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from robollm.core.errors import ConfigError
from robollm.train.detector import ops

ops.prepare()
from mmdet.models.detectors import CascadeRCNN  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402

from robollm.train.detector import backbone, simple_fpn  # noqa: E402, F401  registers them
from robollm.train.detector.speed import speed_up  # noqa: E402
from robollm.train.detector.totes import class_count  # noqa: E402

_OFFSET_CELLS = 4.0


@MODELS.register_module()
class DenseHead(BaseModule):  # type: ignore[misc]
    """Foreground, edges and the way to the instance's centre, at every place of one level.

    It only helps training: a detector from scratch sees few boxes, but every pixel has an
    instance. Nothing of it is used or exported afterwards. Where an ignored instance lies on top,
    nothing is taught.

    Args:
        in_channels: of the level.
        stride: of the level, px.
        loss_weight: of the sum of its three losses.
    """

    def __init__(
        self, in_channels: int, stride: int, loss_weight: float = 1.0, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.stride = stride
        self.loss_weight = loss_weight
        self.predict = nn.Conv2d(in_channels, 4, 1)

    def loss(self, level: Tensor, samples: list[Any]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            level: (B, C, h, w).
            samples: `DetDataSample`s; the instances' masks are looked up at the cells' centres.
        """
        out = self.predict(level).float()
        pairs = [self._labels(s, level) for s in samples]
        labels, known = (torch.stack(one) for one in zip(*pairs, strict=True))
        fg, known = (labels > 0).to(out.dtype), known.to(out.dtype)
        bce = F.binary_cross_entropy_with_logits
        off = F.smooth_l1_loss(out[:, 2:], _to_centres(labels), reduction="none").sum(1)
        losses = {
            "loss_dense_fg": _mean(bce(out[:, 0], fg, reduction="none"), known),
            "loss_dense_edge": _mean(bce(out[:, 1], _edges(labels), reduction="none"), known),
            "loss_dense_centre": 0.5 * _mean(off, fg * known),
        }
        return {k: v * self.loss_weight for k, v in losses.items()}

    def _labels(self, sample: Any, level: Tensor) -> tuple[Tensor, Tensor]:
        """Which instance a cell belongs to, and whether it counts; small ones lie on large ones.

        Returns:
            (h, w) int64, from 1, 0: background; (h, w) bool, False: the instance is ignored.
        """
        (h, w), s = level.shape[2:], self.stride
        parts = [sample.gt_instances.masks.masks]
        if "ignored_instances" in sample:
            parts.append(sample.ignored_instances.masks.masks)
        masks = torch.cat([torch.from_numpy(p[:, s // 2 :: s, s // 2 :: s]) for p in parts])
        masks = F.pad(masks, (0, w - masks.shape[2], 0, h - masks.shape[1])).to(level.device)
        labels = torch.zeros(h, w, dtype=torch.int64, device=level.device)
        known = torch.ones(h, w, dtype=torch.bool, device=level.device)
        order = masks.flatten(1).sum(1).argsort(descending=True, stable=True)
        for value, i in enumerate(order.tolist(), start=1):
            here = masks[i] > 0
            labels[here], known[here] = value, i < len(parts[0])
        return labels, known


def _mean(loss: Tensor, weight: Tensor) -> Tensor:
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def _edges(labels: Tensor) -> Tensor:
    """(B, h, w) -> float, 1 where a neighbour to the left, right, above or below differs."""
    out = torch.zeros(labels.shape, device=labels.device)
    down = (labels[:, 1:] != labels[:, :-1]).float()
    across = (labels[:, :, 1:] != labels[:, :, :-1]).float()
    for part, differs in (
        (out[:, 1:], down),
        (out[:, :-1], down),
        (out[:, :, 1:], across),
        (out[:, :, :-1], across),
    ):
        torch.maximum(part, differs, out=part)
    return out


def _to_centres(labels: Tensor) -> Tensor:
    """(B, h, w) -> (B, 2, h, w): from each cell to its instance's mean cell (y, x), in 4 cells."""
    b, h, w = labels.shape
    most = int(labels.max()) + 1
    key = (labels + torch.arange(b, device=labels.device)[:, None, None] * most).flatten()
    count = torch.bincount(key, minlength=b * most).clamp(min=1)
    axes = (
        torch.arange(h, device=labels.device, dtype=torch.float32)[:, None].expand(h, w),
        torch.arange(w, device=labels.device, dtype=torch.float32).expand(h, w),
    )
    ways = []
    for axis in axes:
        at = axis.expand(b, h, w).flatten()
        mean = torch.zeros(b * most, device=labels.device).index_add_(0, key, at) / count
        ways.append((mean[key] - at).view(b, h, w) / _OFFSET_CELLS)
    return torch.stack(ways, 1)


def _float32(value: Any) -> Any:
    """Tensors, and sequences of them, in float32."""
    return value.float() if isinstance(value, Tensor) else type(value)(map(_float32, value))


def _give_float32(module: nn.Module, args: Any, output: Any) -> Any:
    """A forward hook, against what autocast made of the output."""
    del module, args
    return _float32(output)


@MODELS.register_module()
class ToteCascadeRCNN(CascadeRCNN):  # type: ignore[misc]
    """MMDetection's CascadeRCNN, under autocast as exact as it is without where that matters.

    Only the networks run in half precision: the pyramid gives float32 (`SimpleFPN`), and so do
    the heads here. RoIAlign, box arithmetic and losses stay in float32.

    Args:
        classes: a key of `totes.CLASSES`; sets `num_classes` of every RoI head.
        dense_head: config of a `DenseHead` on the finest level, or None.
        fast: run convolutions the way that is fast on a CPU, see `speed.speed_up`.
        **parts: see `mmdet.models.CascadeRCNN`.

    Raises:
        ConfigError: for unknown `classes`; if the neck's levels are not those of the anchors and
            RoI extractors.
    """

    def __init__(
        self,
        *,
        classes: str = "agnostic",
        dense_head: dict[str, Any] | None = None,
        fast: bool = False,
        **parts: Any,
    ) -> None:
        count = class_count(classes)
        parts["roi_head"] = copy.deepcopy(parts["roi_head"])
        for kind in ("bbox_head", "mask_head"):
            heads = parts["roi_head"][kind]
            for head in heads if isinstance(heads, list) else [heads]:
                head["num_classes"] = count
        super().__init__(**parts)
        self.classes = classes
        self._check_levels()
        self.dense_head = MODELS.build(dense_head) if dense_head else None
        for head in (self.rpn_head, *self.roi_head.bbox_head, *self.roi_head.mask_head):
            head.register_forward_hook(_give_float32)
        if fast:
            speed_up(self)

    def _check_levels(self) -> None:
        made = list(getattr(self.neck, "strides", ()))
        anchors = [s[0] for s in self.rpn_head.prior_generator.strides]
        roi = [*self.roi_head.bbox_roi_extractor, *self.roi_head.mask_roi_extractor]
        pooled = [list(r.featmap_strides) for r in roi]
        if made and (anchors != made or any(p != made[: len(p)] for p in pooled)):
            raise ConfigError(
                f"the neck makes strides {made}, anchors are at {anchors}, RoIs at {pooled}",
                fix="give neck, anchor generator and RoI extractors the same strides",
            )

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[Any]) -> dict[str, Any]:
        """Losses of a batch.

        Args:
            batch_inputs: (B, 3, H, W) float, normalised.
            batch_data_samples: one `DetDataSample` per image.
        """
        levels = self.extract_feat(batch_inputs)
        losses, proposals = self.rpn_head.loss_and_predict(
            levels,
            [_without_classes(s) for s in batch_data_samples],
            proposal_cfg=self.train_cfg.rpn_proposal,
        )
        losses.update(self.roi_head.loss(levels, proposals, batch_data_samples))
        if self.dense_head is not None:
            losses.update(self.dense_head.loss(levels[0], batch_data_samples))
        return dict(losses)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[Any], rescale: bool = True
    ) -> list[Any]:
        """Find instances.

        Args:
            batch_inputs: (B, 3, H, W) float, normalised.
            batch_data_samples: one `DetDataSample` per image, with its size in metainfo.
            rescale: give boxes and masks in source px, else in canvas px.

        Returns:
            The samples with `pred_instances`: bboxes (N, 4) xyxy, scores (N,), labels (N,) and
            masks (N, H, W) bool.
        """
        with warnings.catch_warnings():
            # mmdet 3.3 copies a tensor in a way that torch 2.13 warns of.
            warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
            found: list[Any] = super().predict(batch_inputs, batch_data_samples, rescale)
        return found


def _without_classes(sample: Any) -> Any:
    """What the RPN looks at: boxes of class 0. The masks stay where they are."""
    out = DetDataSample(metainfo=sample.metainfo)
    boxes = sample.gt_instances.bboxes
    out.gt_instances = InstanceData(bboxes=boxes, labels=boxes.new_zeros(len(boxes)).long())
    if "ignored_instances" in sample:
        out.ignored_instances = sample.ignored_instances
    return out
