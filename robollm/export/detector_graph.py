"""A small mask detector on the backbone's map, as one ONNX graph of default-domain operators.

Shape: a simple feature pyramid from the last map alone (ViTDet, arXiv:2203.16527), a region
proposal network, RoIAlign on the level that fits the box, ONE box stage that scores and
refines, and a mask head. The detector that is trained has three cascade stages and larger heads,
and comes from PyTorch; this one is for tests and the first demo. Where it is simpler than
ViTDet: strides 8, 16, 32 only; one box stage; one fully connected layer; proposals of all
levels meet in one suppression; 3x3 convolutions repeat the border instead of padding with zeros,
so that an empty picture gives nothing at its border.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from robollm.export.graphs import Array, Graph

STRIDES = (8, 16, 32)
RATIOS = (0.5, 1.0, 2.0)  # height / width of an anchor
EPS = 1e-6
MAX_LOG = math.log(1000 / 16)  # as in detectron2: one refinement can't explode a box
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


def build_detector(weights: Weights, *, patch: int, rules: DetectorRules) -> onnx.ModelProto:
    """Write the detector as a graph.

    Args:
        weights: float32, named as `detector_shapes` says.
        patch: canvas px per step of the map.
        rules: sizes and thresholds.

    Returns:
        A model. Input `map` (1, C, h, w) float32. Outputs, best first, n from 0 to
        `rules.detections`: `boxes` (n, 4) float32, xyxy, canvas px, inside the canvas;
        `scores` (n,) float32 in [0, 1]; `labels` (n,) int64, all 0; `masks` (n, 28, 28)
        float32 in [0, 1], the probability of "object" over the box.
    """
    g = Graph("segmentation")
    dim = weights["fpn.16.lateral.weight"].shape[1]
    features = g.input("map", [1, dim, "h", "w"])
    build = _Detector(g, weights, rules)
    w, h = g.dim(features, 3), g.dim(features, 2)
    size = g.op("Mul", g.op("Concat", w, h, w, h, axis=0), g.ints(patch))
    build.limit = g.op("Cast", size, to=TensorProto.FLOAT)
    levels = build.pyramid(features)
    rois = build.proposals(levels)
    boxes = build.detect(levels, rois)
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
    """The parts of the detector, written into `graph` one after another."""

    def __init__(self, graph: Graph, weights: Weights, rules: DetectorRules) -> None:
        self.g = graph
        self.w = weights
        self.rules = rules
        self.limit = ""  # (4,) float32: width, height, width, height of the canvas, px

    def pyramid(self, features: str) -> list[str]:
        """(1, C, h, w) -> one (1, K, h_l, w_l) per stride, fine to coarse."""
        up = self._conv(features, "fpn.8.up", op="ConvTranspose", strides=[2, 2])
        # ceil_mode: a map one patch high still has a coarse level
        down = self.g.op("MaxPool", features, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        levels = []
        for stride, x in zip(STRIDES, (up, features, down), strict=True):
            x = self._channel_norm(self._conv(x, f"fpn.{stride}.lateral"))
            x = self._conv(self._edge(x), f"fpn.{stride}.smooth")
            levels.append(self._channel_norm(x))
        return levels

    def proposals(self, levels: list[str]) -> str:
        """The boxes worth a look, best first: (p, 4) float32, canvas px."""
        g, rules = self.g, self.rules
        scores, boxes = [], []
        shared = {p: self._constants(f"rpn.{p}") for p in ("conv", "objectness", "deltas")}
        for stride, level in zip(STRIDES, levels, strict=True):
            x = g.op("Conv", self._edge(level), *shared["conv"], out=f"rpn.hidden.{stride}")
            x = g.op("Relu", x)
            logit = g.op("Conv", x, *shared["objectness"])
            delta = g.op("Conv", x, *shared["deltas"])
            logit = self._rows(logit, f"rpn.logit.{stride}", -1)  # (h*w*A,)
            count = g.op("Min", g.ints(rules.per_level), g.dim(logit, 0))
            best, index = g.ops("TopK", 2, logit, count, axis=0)
            anchors = g.op("Gather", self._anchors(level, stride), index, axis=0)
            delta = g.op("Gather", self._rows(delta, "", -1, 4), index, axis=0)
            boxes.append(self._refine(anchors, delta))
            scores.append(g.op("Sigmoid", best))
        box, score = g.op("Concat", *boxes, axis=0), g.op("Concat", *scores, axis=0)
        kept = self._suppress(box, score, rules.proposals, rules.proposal_iou, 0.0)
        return g.op("Gather", box, kept, axis=0)

    def detect(self, levels: list[str], rois: str) -> str:
        """Score and refine the proposals; give the results' boxes, and name three outputs."""
        g, rules = self.g, self.rules
        x = g.op("Flatten", self._pool(levels, rois, 7), axis=1)
        hidden = g.op("Gemm", x, *self._constants("box.fc"), transB=1, out="box.hidden")
        x = g.op("Relu", hidden)
        logit = g.op("Gemm", x, *self._constants("box.score"), transB=1, out="box.logit")
        delta = g.op("Gemm", x, *self._constants("box.deltas"), transB=1)
        delta = g.op("Mul", delta, g.floats(0.1, 0.1, 0.2, 0.2))
        boxes = self._refine(rois, delta)
        scores = g.op("Reshape", g.op("Sigmoid", logit), g.ints(-1))
        kept = self._suppress(boxes, scores, rules.detections, rules.iou, rules.score_floor)
        scores = g.op("Gather", scores, kept, axis=0)
        # ONNX doesn't promise the order of NonMaxSuppression's result
        _, order = g.ops("TopK", 2, scores, g.dim(scores, 0), axis=0, out="scores")
        boxes = g.op("Gather", g.op("Gather", boxes, kept, axis=0), order, axis=0, out="boxes")
        zero = onnx.helper.make_tensor("value", TensorProto.INT64, [1], [0])
        g.op("ConstantOfShape", g.dim(boxes, 0), value=zero, out="labels")
        return boxes

    def masks(self, levels: list[str], boxes: str) -> None:
        """The probability of "object" over each box: the output `masks` (n, 28, 28)."""
        g = self.g
        x = self._conv(self._pool(levels, boxes, 14), "mask.conv", pads=[1, 1, 1, 1])
        x = self._conv(g.op("Relu", x), "mask.up", op="ConvTranspose", strides=[2, 2])
        x = self._conv(g.op("Relu", x), "mask.logit", out="mask.residual")
        x = g.op("Add", x, g.const(self.w["mask.prior"], "mask.prior"))
        g.op("Squeeze", g.op("Sigmoid", x), g.ints(1), out="masks")

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

    def _refine(self, boxes: str, delta: str) -> str:
        """Move and scale boxes by (dx, dy, log dw, log dh), then clip them to the canvas."""
        g = self.g
        low, high = self._halves(boxes)
        shift, grow = self._halves(delta)
        size = g.op("Sub", high, low)
        centre = g.op("Mul", g.op("Add", low, high), g.scalar(0.5))
        centre = g.op("Add", centre, g.op("Mul", size, shift))
        grow = g.op("Exp", g.op("Clip", grow, g.scalar(-MAX_LOG), g.scalar(MAX_LOG)))
        half = g.op("Mul", g.op("Mul", size, grow), g.scalar(0.5))
        moved = g.op("Concat", g.op("Sub", centre, half), g.op("Add", centre, half), axis=1)
        return g.op("Min", g.op("Max", moved, g.scalar(0.0)), self.limit)

    def _suppress(self, boxes: str, scores: str, count: int, iou: float, floor: float) -> str:
        """Indices of the boxes that stay, (k,) int64; boxes too thin to be real never do."""
        g = self.g
        low, high = self._halves(boxes)
        side = g.op("ReduceMin", g.op("Sub", high, low), axes=[1], keepdims=0)
        real = g.op("GreaterOrEqual", side, g.scalar(self.rules.min_side))
        scores = g.op("Where", real, scores, g.scalar(-1.0))
        kept = g.op(
            "NonMaxSuppression",
            g.op("Unsqueeze", boxes, g.ints(0)),
            g.op("Unsqueeze", scores, g.ints(0, 1)),
            g.ints(count),
            g.floats(iou),
            g.floats(floor),
        )
        return g.op("Gather", kept, g.int0(2), axis=1)

    def _pool(self, levels: list[str], boxes: str, side: int) -> str:
        """RoIAlign each box on the level of its size: (n, K, side, side).

        The rule is FPN's: a box of 14 strides belongs to the level, one of twice the side to
        the next. Boxes are pooled level by level and put back into their order.
        """
        g = self.g
        low, high = self._halves(boxes)
        area = g.op("ReduceProd", g.op("Sub", high, low), axes=[1], keepdims=0)
        ratio = g.op("Mul", area, g.scalar((14 * STRIDES[0]) ** -2))
        level = g.op(
            "Mul", g.op("Log", g.op("Add", ratio, g.scalar(EPS))), g.scalar(0.5 / math.log(2))
        )
        level = g.op("Clip", g.op("Floor", level), g.scalar(0.0), g.scalar(len(STRIDES) - 1.0))
        parts, indices = [], []
        for i, (stride, features) in enumerate(zip(STRIDES, levels, strict=True)):
            here = g.op("NonZero", g.op("Equal", level, g.scalar(float(i))))
            index = g.op("Reshape", here, g.ints(-1))
            zero = onnx.helper.make_tensor("value", TensorProto.INT64, [1], [0])
            pooled = g.op(
                "RoiAlign",
                features,
                g.op("Gather", boxes, index, axis=0),
                g.op("ConstantOfShape", g.op("Shape", index), value=zero),
                coordinate_transformation_mode="half_pixel",
                output_height=side,
                output_width=side,
                sampling_ratio=2,
                spatial_scale=1 / stride,
            )
            parts.append(pooled)
            indices.append(index)
        index = g.op("Concat", *indices, axis=0)
        _, back = g.ops("TopK", 2, index, g.dim(index, 0), axis=0, largest=0)
        return g.op("Gather", g.op("Concat", *parts, axis=0), back, axis=0)

    def _halves(self, boxes: str) -> tuple[str, str]:
        """Columns 0-1 and columns 2-3."""
        low, high = self.g.ops("Split", 2, boxes, self.g.ints(2, 2), axis=1)
        return low, high

    def _rows(self, x: str, out: str, *shape: int) -> str:
        """(1, A*m, h, w) -> one row per anchor, in the anchors' order."""
        x = self.g.op("Transpose", x, perm=[0, 2, 3, 1])
        return self.g.op("Reshape", x, self.g.ints(*shape), out=out)

    def _edge(self, x: str) -> str:
        """Repeat the border once on each side: an even picture stays even up to its border."""
        return self.g.op("Pad", x, self.g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")

    def _channel_norm(self, x: str) -> str:
        """LayerNorm over the channels of (1, K, h, w), without weights."""
        g, k = self.g, len(self.w["rpn.conv.weight"])
        x = g.op("Transpose", x, perm=[0, 2, 3, 1])
        one = g.floats(*[1.0] * k)
        x = g.op("LayerNormalization", x, one, axis=-1, epsilon=EPS)
        return g.op("Transpose", x, perm=[0, 3, 1, 2])

    def _conv(
        self, x: str, name: str, *, op: str = "Conv", out: str = "", **attributes: list[int]
    ) -> str:
        return self.g.op(op, x, *self._constants(name), out=out, **attributes)

    def _constants(self, name: str) -> tuple[str, str]:
        """The weight and the bias of a layer."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        return self.g.const(self.w[weight], weight), self.g.const(self.w[bias], bias)
