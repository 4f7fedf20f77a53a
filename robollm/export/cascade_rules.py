"""Which detectors can be written as graphs, and the sizes that follow from their settings."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from robollm.core.errors import ModelFileError


class Pooling(NamedTuple):
    """How one RoI extractor pools: two extractors that are equal here give the same features."""

    strides: tuple[int, ...]
    finest: float
    side: int
    sampling: int


def check(detector: Any) -> None:
    """Refuse what the graphs would get wrong.

    Raises:
        ModelFileError: names the part, and what is known instead.
    """
    rpn, roi = detector.rpn_head, detector.roi_head
    _is(detector.neck, "the neck", "SimpleFPN")
    _is(rpn, "rpn_head", "RPNHead")
    _is(rpn.prior_generator, "its anchors", "AnchorGenerator")
    _is(roi, "roi_head", "CascadeRoIHead")
    _want(rpn.use_sigmoid_cls, "rpn_head scores by softmax, want a sigmoid")
    _nms(detector.test_cfg.rpn, "test_cfg.rpn")
    _nms(detector.test_cfg.rcnn, "test_cfg.rcnn")
    _want(detector.test_cfg.rcnn.max_per_img > 0, "test_cfg.rcnn.max_per_img has no limit")
    _coder(rpn.bbox_coder, "rpn_head")
    for i, head in enumerate(roi.bbox_head):
        name = f"roi_head.bbox_head.{i}"
        _is(head, name, "Shared2FCBBoxHead", "Shared4Conv1FCBBoxHead", "ConvFCBBoxHead")
        _coder(head.bbox_coder, name)
        plain = not (head.custom_cls_channels or head.with_avg_pool)
        _want(plain and head.with_cls and head.with_reg, f"{name} has classes of its own, or pools")
    for i, head in enumerate(roi.mask_head):
        _is(head, f"roi_head.mask_head.{i}", "FCNMaskHead")
    for extractor in (*roi.bbox_roi_extractor, *roi.mask_roi_extractor):
        pooling(extractor)


def pooling(extractor: Any) -> Pooling:
    """The settings of a `SingleRoIExtractor`.

    Raises:
        ModelFileError: for another extractor, or RoIAlign with settings that ONNX lacks.
    """
    _is(extractor, "a RoI extractor", "SingleRoIExtractor")
    layers = list(extractor.roi_layers)
    first = layers[0]
    for layer in layers:
        _is(layer, "a RoI layer", "RoIAlign")
    side, other = first.output_size
    _want(
        first.aligned and first.pool_mode == "avg" and side == other,
        "RoIAlign is not aligned, or takes maxima, or its output is not square",
    )
    strides = tuple(int(s) for s in extractor.featmap_strides)
    return Pooling(strides, float(extractor.finest_scale), int(side), int(first.sampling_ratio))


def levels_used(detector: Any) -> int:
    """How many levels, from the finest, RoIs are taken from."""
    roi = detector.roi_head
    return max(int(e.num_inputs) for e in (*roi.bbox_roi_extractor, *roi.mask_roi_extractor))


def map_channels(neck: Any) -> int:
    """Channels of the map that a `SimpleFPN` takes."""
    first = (*neck.scales[0].modules(), *neck.levels[0].modules())
    return int(next(m.in_channels for m in first if hasattr(m, "in_channels")))


def level_sizes(neck: Any, canvas_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) in cells of every level that a `SimpleFPN` makes."""
    sizes: list[tuple[int, int]] = []
    for i, stride in enumerate(neck.strides):
        coarse = i >= len(neck.scales) or not isinstance(
            neck.scales[i], (nn.Identity, nn.Sequential)
        )
        if not coarse:
            h, w = (side // stride for side in canvas_hw)
        else:
            fine = sizes[-1] if sizes else tuple(2 * side // stride for side in canvas_hw)
            floor = i < len(neck.scales) and isinstance(neck.scales[i], nn.MaxPool2d)
            h, w = ((side + (not floor)) // 2 for side in fine)
        sizes.append((h, w))
    return sizes


def patch_of(neck: Any) -> int:
    """Canvas px per step of the map that a `SimpleFPN` was made for."""
    scale, stride = neck.scales[0], int(neck.strides[0])
    ups = sum(isinstance(m, nn.ConvTranspose2d) for m in scale.modules())
    halves = isinstance(scale, (nn.MaxPool2d, nn.Conv2d))
    return (stride << ups) // (2 if halves else 1)


def _nms(cfg: Any, name: str) -> None:
    plain = cfg.nms.get("type", "nms") == "nms"
    unknown = sorted(set(cfg.nms) - {"type", "iou_threshold"})
    _want(plain and not unknown, f"{name}.nms is {dict(cfg.nms)}, want only an iou_threshold")


def _coder(coder: Any, name: str) -> None:
    _is(coder, f"{name}.bbox_coder", "DeltaXYWHBBoxCoder")
    plain = coder.clip_border and not coder.add_ctr_clamp
    _want(plain, f"{name}.bbox_coder doesn't clip, or clamps centres")


def _is(part: Any, name: str, *known: str) -> None:
    kind = type(part).__name__
    _want(kind in known, f"{name} is a {kind}, want {' or '.join(known)}")


def _want(fits: bool, what: str) -> None:
    if not fits:
        raise ModelFileError(
            f"this detector can't be exported: {what}",
            fix="build it as robollm/train/configs/_base_/detector.py does",
        )
