"""A small mask detector on the backbone's map, as two ONNX graphs of default-domain operators.

Shape: a simple feature pyramid from the last map alone (ViTDet, arXiv:2203.16527), a region
proposal network, RoIAlign on the level that fits the box, ONE box stage that scores and
refines, and a mask head. The detector that is trained has up to three cascade stages and larger
heads, and comes from PyTorch (`cascade_graph`); this one is for tests and the first demo. Where it
is simpler than ViTDet: strides 8, 16, 32 only; one box stage; one fully connected layer; proposals
of all levels meet in one suppression; 3x3 convolutions repeat the border instead of padding with
zeros, so that an empty picture gives nothing at its border.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from robollm.export import roi_graph as roi
from robollm.export.graphs import Array, Graph

STRIDES = (8, 16, 32)
RATIOS = (0.5, 1.0, 2.0)  # height / width of an anchor
FINEST = 14.0 * STRIDES[0]  # px; larger boxes than twice that leave the first level
EPS = 1e-6
SCORE_FLOOR = 0.0  # of a candidate
Weights = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class DetectorRules:
    """The numbers in the detector that no training changes.

    Attributes:
        anchor: side of an anchor, in strides of its level.
        per_level: candidates kept per level before suppression.
        proposals: boxes that go to the box head, at most.
        proposal_iou: of two proposals that overlap more, the worse goes.
        detections: results, at most.
        iou: of two results that overlap more, the worse goes.
        score_floor: results at or below it are not given.
        min_side: boxes with a shorter side are not given, canvas px.
    """

    anchor: float = 5.0
    per_level: int = 128
    proposals: int = 64
    proposal_iou: float = 0.7
    detections: int = 40
    iou: float = 0.5
    score_floor: float = 0.05
    min_side: float = 2.0


def build_proposals(weights: Weights, *, patch: int, rules: DetectorRules) -> onnx.ModelProto:
    """Write the pyramid and the region proposal network as a graph, for maps of any size.

    Args:
        weights: float32, named as `detector_shapes` says.
        patch: canvas px per step of the map.
        rules: sizes and thresholds.

    Returns:
        A model. Input `map` (1, C, h, w) float32. Outputs, float32: `levels.0` to `levels.2`
        (1, K, h_l, w_l), fine to coarse; `candidates` (M, 4), xyxy, canvas px, inside the canvas;
        `candidate_scores` (M,) in [0, 1], or `roi_graph.THIN`; `candidate_levels` (M,).
    """
    g = Graph("proposals")
    dim = weights["fpn.16.lateral.weight"].shape[1]
    features = g.input("map", [1, dim, "h", "w"])
    w, h = g.dim(features, 3), g.dim(features, 2)
    size = g.op("Mul", g.op("Concat", w, h, w, h, axis=0), g.ints(patch))
    build = _Detector(g, weights, rules, g.op("Cast", size, to=TensorProto.FLOAT))
    channels = len(weights["rpn.conv.weight"])
    build.candidates(build.pyramid(features))
    for i in range(len(STRIDES)):
        g.output(f"levels.{i}", [1, channels, f"h{i}", f"w{i}"])
    g.output("candidates", ["M", 4])
    g.output("candidate_scores", ["M"])
    g.output("candidate_levels", ["M"])
    return g.model()


def build_rois(weights: Weights, *, rules: DetectorRules) -> onnx.ModelProto:
    """Write suppression, box head and mask head as a graph.

    Args:
        weights: float32, named as `detector_shapes` says.
        rules: sizes and thresholds.

    Returns:
        A model. Inputs: what `build_proposals` gives, and `proposals` (1,) int64, how many boxes go
        to the heads at most. `candidate_levels` doesn't matter: all levels meet in one suppression.
        Outputs, best first, n from 0 to `rules.detections`: `boxes` (n, 4) float32, xyxy, canvas
        px, inside the canvas; `scores` (n,) float32 in [0, 1]; `labels` (n,) int64, all 0; `masks`
        (n, 28, 28) float32 in [0, 1], the probability of "object" over the box.
    """
    g = Graph("rois")
    channels = len(weights["rpn.conv.weight"])
    levels = [g.input(f"levels.{i}", [1, channels, f"h{i}", f"w{i}"]) for i in range(len(STRIDES))]
    candidates = g.input("candidates", ["M", 4])
    scores = g.input("candidate_scores", ["M"])
    g.input("candidate_levels", ["M"])
    count = g.input("proposals", [1], dtype=TensorProto.INT64)
    w, h = g.dim(levels[0], 3), g.dim(levels[0], 2)
    size = g.op("Mul", g.op("Concat", w, h, w, h, axis=0), g.ints(STRIDES[0]))
    build = _Detector(g, weights, rules, g.op("Cast", size, to=TensorProto.FLOAT))
    best = roi.suppress(
        g, candidates, scores, count=count, iou=rules.proposal_iou, floor=g.floats(SCORE_FLOOR)
    )
    boxes = build.detect(levels, g.op("Gather", candidates, best, axis=0))
    build.masks(levels, boxes)
    g.output("boxes", ["n", 4])
    g.output("scores", ["n"])
    g.output("labels", ["n"], dtype=TensorProto.INT64)
    g.output("masks", ["n", 28, 28])
    return g.model()


def detector_shapes(dim: int, channels: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """The shape of every weight, by name.

    Args:
        dim: channels of the map, C.
        channels: channels of the pyramid and of the heads, K.
        hidden: outputs of the box head's fully connected layer.
    """
    k, a = channels, len(RATIOS)
    shapes: dict[str, tuple[int, ...]] = {"fpn.8.up.weight": (dim, dim // 2, 2, 2)}
    layers: dict[str, tuple[int, ...]] = {
        "rpn.conv": (k, k, 3, 3),
        "rpn.objectness": (a, k, 1, 1),
        "rpn.deltas": (4 * a, k, 1, 1),
        "box.fc": (hidden, 49 * k),
        "box.score": (1, hidden),
        "box.deltas": (4, hidden),
        "mask.conv": (k, k, 3, 3),
        "mask.logit": (1, k, 1, 1),
    }
    for stride in STRIDES:
        layers[f"fpn.{stride}.lateral"] = (k, dim // 2 if stride == 8 else dim, 1, 1)
        layers[f"fpn.{stride}.smooth"] = (k, k, 3, 3)
    for name, shape in layers.items():
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]
    return shapes | {
        "fpn.8.up.bias": (dim // 2,),
        "mask.up.weight": (k, k, 2, 2),
        "mask.up.bias": (k,),
        "mask.prior": (1, 1, 28, 28),
    }


class _Detector:
    """The parts of the detector, written into `graph` one after another.

    Args:
        graph: where they go.
        weights: see `detector_shapes`.
        rules: sizes and thresholds.
        limit: a (4,) float32 value: width, height, width, height of the canvas, px.
    """

    def __init__(self, graph: Graph, weights: Weights, rules: DetectorRules, limit: str) -> None:
        self.g = graph
        self.w = weights
        self.rules = rules
        self.limit = limit

    def pyramid(self, features: str) -> list[str]:
        """(1, C, h, w) -> one (1, K, h_l, w_l) per stride, fine to coarse: `levels.0` and so on."""
        up = self._conv(features, "fpn.8.up", op="ConvTranspose", strides=[2, 2])
        # ceil_mode: a map one patch high still has a coarse level
        down = self.g.op("MaxPool", features, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        levels = []
        for i, (stride, x) in enumerate(zip(STRIDES, (up, features, down), strict=True)):
            x = self._channel_norm(self._conv(x, f"fpn.{stride}.lateral"))
            x = self._conv(self._edge(x), f"fpn.{stride}.smooth")
            levels.append(self._channel_norm(x, out=f"levels.{i}"))
        return levels

    def candidates(self, levels: list[str]) -> None:
        """The boxes worth a look: the outputs `candidates`, `_scores` and `_levels`."""
        g, rules = self.g, self.rules
        scores, boxes, numbers = [], [], []
        shared = {p: self._constants(f"rpn.{p}") for p in ("conv", "objectness", "deltas")}
        for i, (stride, level) in enumerate(zip(STRIDES, levels, strict=True)):
            x = g.op("Conv", self._edge(level), *shared["conv"], out=f"rpn.hidden.{stride}")
            x = g.op("Relu", x)
            logit = g.op("Conv", x, *shared["objectness"])
            delta = g.op("Conv", x, *shared["deltas"])
            logit = self._rows(logit, f"rpn.logit.{stride}", -1)  # (h*w*A,)
            count = g.op("Min", g.ints(rules.per_level), g.dim(logit, 0))
            best, index = g.ops("TopK", 2, logit, count, axis=0)
            anchors = g.op("Gather", self._anchors(level, stride), index, axis=0)
            delta = g.op("Gather", self._rows(delta, "", -1, 4), index, axis=0)
            boxes.append(roi.refine(g, anchors, delta, self.limit))
            scores.append(g.op("Sigmoid", best))
            numbers.append(g.op("Expand", g.scalar(float(i)), count))
        box = g.op("Concat", *boxes, axis=0, out="candidates")
        score = g.op("Concat", *scores, axis=0)
        roi.without_thin(g, box, score, rules.min_side, out="candidate_scores")
        g.op("Concat", *numbers, axis=0, out="candidate_levels")

    def detect(self, levels: list[str], rois: str) -> str:
        """Score and refine the proposals; give the results' boxes, and name three outputs."""
        g, rules = self.g, self.rules
        pooled, which = self._pool(levels, rois, 7)
        rois = g.op("Gather", rois, which, axis=0)
        x = g.op("Flatten", pooled, axis=1)
        hidden = g.op("Gemm", x, *self._constants("box.fc"), transB=1, out="box.hidden")
        x = g.op("Relu", hidden)
        logit = g.op("Gemm", x, *self._constants("box.score"), transB=1, out="box.logit")
        delta = g.op("Gemm", x, *self._constants("box.deltas"), transB=1)
        delta = g.op("Mul", delta, g.floats(0.1, 0.1, 0.2, 0.2))
        boxes = roi.refine(g, rois, delta, self.limit)
        scores = g.op("Reshape", g.op("Sigmoid", logit), g.ints(-1))
        scores = roi.without_thin(g, boxes, scores, rules.min_side)
        kept = roi.suppress(
            g,
            boxes,
            scores,
            count=g.ints(rules.detections),
            iou=rules.iou,
            floor=g.floats(rules.score_floor),
        )
        _, best = roi.ranked(g, scores, kept, out="scores")
        boxes = g.op("Gather", boxes, best, axis=0, out="boxes")
        roi.zeros(g, g.dim(boxes, 0), out="labels")
        return boxes

    def masks(self, levels: list[str], boxes: str) -> None:
        """The probability of "object" over each box: the output `masks` (n, 28, 28)."""
        g = self.g
        pooled, which = self._pool(levels, boxes, 14)
        x = self._conv(pooled, "mask.conv", pads=[1, 1, 1, 1])
        x = self._conv(g.op("Relu", x), "mask.up", op="ConvTranspose", strides=[2, 2])
        x = self._conv(g.op("Relu", x), "mask.logit", out="mask.residual")
        x = g.op("Add", x, g.const(self.w["mask.prior"], "mask.prior"))
        x = g.op("Squeeze", g.op("Sigmoid", x), g.ints(1))
        roi.in_order(g, x, which, out="masks")

    def _pool(self, levels: list[str], boxes: str, side: int) -> tuple[str, str]:
        return roi.pool(
            self.g, levels, boxes, strides=STRIDES, finest=FINEST, side=side, sampling=2
        )

    def _anchors(self, level: str, stride: int) -> str:
        """All anchors of a level, rows first: (h*w*A, 4) float32, canvas px."""
        g = self.g
        side = self.rules.anchor * stride
        half = [(side / math.sqrt(r) / 2, side * math.sqrt(r) / 2) for r in RATIOS]
        cells = np.array([(-x, -y, x, y) for x, y in half], np.float32) + stride / 2
        axes = []
        for axis, shape, unit in (
            (3, (1, -1, 1, 1), (1, 0, 1, 0)),
            (2, (-1, 1, 1, 1), (0, 1, 0, 1)),
        ):
            count = g.op("Squeeze", g.dim(level, axis), g.ints(0))
            steps = g.op("Range", g.int0(0), count, g.int0(1))
            steps = g.op("Reshape", g.op("Cast", steps, to=TensorProto.FLOAT), g.ints(*shape))
            axes.append(g.op("Mul", steps, g.floats(*(float(stride * u) for u in unit))))
        grid = g.op("Add", g.op("Add", *axes), g.const(cells))  # (h, w, A, 4)
        return g.op("Reshape", grid, g.ints(-1, 4))

    def _rows(self, x: str, out: str, *shape: int) -> str:
        """(1, A*m, h, w) -> one row per anchor, in the anchors' order."""
        x = self.g.op("Transpose", x, perm=[0, 2, 3, 1])
        return self.g.op("Reshape", x, self.g.ints(*shape), out=out)

    def _edge(self, x: str) -> str:
        """Repeat the border once on each side: an even picture stays even up to its border."""
        return self.g.op("Pad", x, self.g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")

    def _channel_norm(self, x: str, *, out: str = "") -> str:
        """LayerNorm over the channels of (1, K, h, w), without weights."""
        g, k = self.g, len(self.w["rpn.conv.weight"])
        x = g.op("Transpose", x, perm=[0, 2, 3, 1])
        one = g.floats(*[1.0] * k)
        x = g.op("LayerNormalization", x, one, axis=-1, epsilon=EPS)
        return g.op("Transpose", x, perm=[0, 3, 1, 2], out=out)

    def _conv(
        self, x: str, name: str, *, op: str = "Conv", out: str = "", **attributes: list[int]
    ) -> str:
        return self.g.op(op, x, *self._constants(name), out=out, **attributes)

    def _constants(self, name: str) -> tuple[str, str]:
        """The weight and the bias of a layer."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        return self.g.const(self.w[weight], weight), self.g.const(self.w[bias], bias)
