"""The trained detector, Cascade Mask R-CNN, as two graphs: `proposals` (static) and `rois`.

The networks are read from the PyTorch modules (`torch_layers`); what MMDetection computes around
them in Python, anchors, box arithmetic, level rules, suppression, is written here after its
`RPNHead.predict`, `CascadeRoIHead.predict` and what they call. Anchors are constants of one canvas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from robollm.core.errors import ConfigError
from robollm.export import roi_graph as roi
from robollm.export.cascade_heads import CascadeHeads, suppress_groups, unscaled
from robollm.export.cascade_rules import check, level_sizes, levels_used, map_channels, patch_of
from robollm.export.graphs import Graph
from robollm.export.torch_layers import TorchLayers

_ANY = -0.5
"""A floor for scores, from 0, that only keeps out `roi_graph.THIN`."""


def default_proposals(detector: Any) -> int:
    """How many boxes the detector was validated with."""
    return int(detector.test_cfg.rpn.max_per_img)


def build_proposals(detector: Any, *, canvas_hw: tuple[int, int], patch: int) -> onnx.ModelProto:
    """Write pyramid and region proposal network; every shape is known beforehand.

    Args:
        detector: a `ToteCascadeRCNN`.
        canvas_hw: height and width of the canvas, px, multiples of `patch`.
        patch: canvas px per step of the map.

    Returns:
        A model. Input `map` (1, C, h, w) float32. Outputs, float32: `levels.0` and so on,
        (1, K, h_l, w_l), those that RoIs are taken from, fine to coarse; `candidates` (M, 4), xyxy,
        canvas px, inside the canvas; `candidate_scores` (M,) in [0, 1], or `roi_graph.THIN` where
        the box is too thin; `candidate_levels` (M,), from 0.

    Raises:
        ConfigError: for a canvas that is no multiple of `patch`.
        ModelFileError: for a detector of other parts than the configs of robollm use.
    """
    check(detector)
    neck, rpn, cfg = detector.neck, detector.rpn_head, detector.test_cfg.rpn
    if patch != patch_of(neck):
        raise ConfigError(f"patch is {patch} px, but the detector's is {patch_of(neck)}")
    _check_canvas(canvas_hw, patch)
    g = Graph("proposals")
    layers = TorchLayers(g)
    x = g.input("map", [1, map_channels(neck), *(side // patch for side in canvas_hw)])
    levels = _pyramid(layers, neck, x, levels_used(detector))
    sizes = level_sizes(neck, canvas_hw)
    priors = rpn.prior_generator.grid_priors(sizes, device="cpu")
    limit = _limit(g, canvas_hw)
    scores, boxes, numbers = [], [], []
    for i, (level, prior) in enumerate(zip(levels, priors, strict=True)):
        x = g.op("Relu", layers(rpn.rpn_conv, level, "rpn_head.rpn_conv"))
        logit = _rows(g, layers(rpn.rpn_cls, x, "rpn_head.rpn_cls"), len(prior))
        delta = _rows(g, layers(rpn.rpn_reg, x, "rpn_head.rpn_reg"), len(prior), 4)
        anchors = g.const(prior.numpy().astype(np.float32), f"anchors.{i}")
        count = len(prior)
        if 0 < cfg.nms_pre < count:
            count = int(cfg.nms_pre)
            logit, best = g.ops("TopK", 2, logit, g.ints(count), axis=0)
            anchors = g.op("Gather", anchors, best, axis=0)
            delta = g.op("Gather", delta, best, axis=0)
        boxes.append(roi.refine(g, anchors, unscaled(g, delta, rpn.bbox_coder), limit))
        scores.append(logit)
        numbers.append(np.full(count, i, np.float32))
    box = g.op("Concat", *boxes, axis=0, out="candidates")
    score = g.op("Sigmoid", g.op("Concat", *scores, axis=0))
    thin = cfg.get("min_bbox_size", -1)
    if thin < 0:  # MMDetection then keeps even empty boxes
        g.op("Identity", score, out="candidate_scores")
    else:
        roi.without_thin(g, box, score, thin, out="candidate_scores")
    number = np.concatenate(numbers)
    g.op("Identity", g.const(number, "level_numbers"), out="candidate_levels")
    for name, shape in _level_shapes(detector, canvas_hw):
        g.output(name, shape)
    g.output("candidates", [len(number), 4])
    g.output("candidate_scores", [len(number)])
    g.output("candidate_levels", [len(number)])
    return g.model()


def build_rois(detector: Any, *, canvas_hw: tuple[int, int]) -> onnx.ModelProto:
    """Write suppression of the proposals, the box stages, the last suppression and the masks.

    Args:
        detector: a `ToteCascadeRCNN`.
        canvas_hw: height and width of the canvas, px.

    Returns:
        A model. Inputs: the outputs of `build_proposals`; `proposals` (1,) int64, how many boxes go
        to the heads at most; `score_min` (1,) float32: instances with this score or less are not
        given, and nothing is spent on their masks, which cost the most. Outputs, best first, n
        from 0 to the detector's `max_per_img`: `boxes` (n, 4) float32, xyxy, canvas px, inside the
        canvas; `scores` (n,) float32; `labels` (n,) int64; `masks` (n, 28, 28) float32 in [0, 1],
        over the boxes.

    Raises:
        ConfigError, ModelFileError: see `build_proposals`.
    """
    check(detector)
    _check_canvas(canvas_hw, patch_of(detector.neck))
    g = Graph("rois")
    levels = [g.input(name, shape) for name, shape in _level_shapes(detector, canvas_hw)]
    candidates = g.input("candidates", ["M", 4])
    scores = g.input("candidate_scores", ["M"])
    numbers = g.input("candidate_levels", ["M"])
    count = g.input("proposals", [1], dtype=TensorProto.INT64)
    best = suppress_groups(
        g,
        (candidates, scores, numbers),
        count=count,
        iou=detector.test_cfg.rpn.nms.iou_threshold,
        floor=g.floats(_ANY),
    )
    heads = CascadeHeads(g, detector.roi_head, levels, _limit(g, canvas_hw))
    cfg = detector.test_cfg.rcnn
    floor = g.op("Max", g.floats(cfg.score_thr), g.input("score_min", [1]))
    boxes, labels = heads.boxes(g.op("Gather", candidates, best, axis=0), cfg, floor)
    side = heads.masks(boxes, labels)
    g.output("boxes", ["n", 4])
    g.output("scores", ["n"])
    g.output("labels", ["n"], dtype=TensorProto.INT64)
    g.output("masks", ["n", side, side])
    return g.model()


def _pyramid(layers: TorchLayers, neck: Any, x: str, named: int) -> list[str]:
    """`SimpleFPN.forward`; the first `named` levels are outputs."""
    g = layers.g
    levels: list[str] = []
    for i in range(len(neck.strides)):
        if i < len(neck.scales):
            level = layers(neck.scales[i], x, f"neck.scales.{i}")
            level = layers(neck.levels[i], level, f"neck.levels.{i}")
        else:
            level = g.op("MaxPool", levels[-1], kernel_shape=[1, 1], strides=[2, 2])
        levels.append(g.op("Identity", level, out=f"levels.{i}") if i < named else level)
    return levels


def _level_shapes(detector: Any, canvas_hw: tuple[int, int]) -> Iterable[tuple[str, list[int]]]:
    """Name and shape of the levels that RoIs are taken from."""
    sizes = level_sizes(detector.neck, canvas_hw)[: levels_used(detector)]
    channels = int(detector.neck.levels[0][0].out_channels)
    return [(f"levels.{i}", [1, channels, *size]) for i, size in enumerate(sizes)]


def _rows(g: Graph, x: str, *shape: int) -> str:
    """(1, A * m, h, w) -> one row per anchor, in the order of the anchors."""
    return g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 3, 1]), g.ints(*shape))


def _limit(g: Graph, canvas_hw: tuple[int, int]) -> str:
    return g.floats(float(canvas_hw[1]), float(canvas_hw[0]), *map(float, canvas_hw[::-1]))


def _check_canvas(canvas_hw: tuple[int, int], patch: int) -> None:
    if any(side < patch or side % patch for side in canvas_hw):
        raise ConfigError(
            f"the canvas is {canvas_hw[1]} x {canvas_hw[0]} px, want multiples of {patch}"
        )
