"""`CascadeRoIHead` of MMDetection as nodes: box stages, the last suppression, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from robollm.export import roi_graph as roi
from robollm.export.cascade_rules import Pooling, pooling
from robollm.export.graphs import Graph
from robollm.export.torch_layers import TorchLayers


class CascadeHeads:
    """`CascadeRoIHead`, written into a graph.

    Args:
        graph: where the nodes go.
        head: the module.
        levels: of the pyramid, fine to coarse.
        limit: a (4,) float32 value: width, height, width, height of the canvas, px.
    """

    def __init__(self, graph: Graph, head: Any, levels: list[str], limit: str) -> None:
        self.g = graph
        self.head = head
        self.levels = levels
        self.limit = limit
        self.layers = TorchLayers(graph)

    def boxes(self, rois: str, cfg: Any, floor: str) -> tuple[str, str]:
        """The box stages and what is left in the end: outputs `boxes`, `scores`, `labels`.

        Args:
            rois: (p, 4).
            cfg: the detector's `test_cfg.rcnn`.
            floor: (1,) float32, boxes with this score or less are not given.

        Returns:
            (n, 4) and (n,) int64: boxes and labels.
        """
        g, total = self.g, ""
        stages = list(zip(self.head.bbox_head, self.head.bbox_roi_extractor, strict=True))
        for i, (head, extractor) in enumerate(stages):
            pooled, which = self._pool(rois, pooling(extractor))
            rois = g.op("Gather", rois, which, axis=0)  # the order of boxes is free, so far
            logits, delta = self._box_head(head, pooled, f"roi_head.bbox_head.{i}")
            total = g.op("Add", g.op("Gather", total, which, axis=0), logits) if total else logits
            if i + 1 < len(stages):
                delta = self._of_best(head, logits, delta)
                rois = roi.refine(g, rois, unscaled(g, delta, head.bbox_coder), self.limit)
        mean = g.op("Mul", total, g.scalar(1 / len(stages)))
        scores = g.op("Softmax", mean, axis=1)
        boxes, each = self._refined(head, rois, delta), range(head.num_classes)
        return self._final(
            boxes, [g.op("Gather", scores, g.int0(c), axis=1) for c in each], cfg, floor
        )

    def masks(self, boxes: str, labels: str) -> int:
        """The mean over the stages' masks: the output `masks`; gives its side."""
        g, parts = self.g, []
        pooled: dict[Pooling, tuple[str, str]] = {}
        for i, (head, extractor) in enumerate(
            zip(self.head.mask_head, self.head.mask_roi_extractor, strict=True)
        ):
            how = pooling(extractor)
            if how not in pooled:
                pooled[how] = self._pool(boxes, how)
            x, which = pooled[how]
            x = self._mask_head(head, x, f"roi_head.mask_head.{i}")
            if head.conv_logits.out_channels == 1:
                x = g.op("Squeeze", x, g.ints(1))
            else:
                label = g.op("Gather", labels, which, axis=0)
                x = g.op("GatherND", x, g.op("Unsqueeze", label, g.ints(1)), batch_dims=1)
            parts.append(roi.in_order(g, g.op("Sigmoid", x), which))
        total = g.op("Sum", *parts)
        g.op("Mul", total, g.scalar(1 / len(parts)), out="masks")
        return how.side * (2 if head.upsample is not None else 1)

    def _pool(self, boxes: str, how: Pooling) -> tuple[str, str]:
        return roi.pool(
            self.g,
            self.levels[: len(how.strides)],
            boxes,
            strides=how.strides,
            finest=how.finest,
            side=how.side,
            sampling=how.sampling,
        )

    def _box_head(self, head: Any, x: str, name: str) -> tuple[str, str]:
        """`ConvFCBBoxHead.forward`: logits (p, classes + 1) and deltas (p, 4 or 4 classes)."""
        g, flat = self.g, False

        def branch(x: str, kind: str, flat: bool) -> tuple[str, bool]:
            for i, conv in enumerate(getattr(head, f"{kind}_convs")):
                x = self.layers(conv, x, f"{name}.{kind}_convs.{i}")
            fcs = list(getattr(head, f"{kind}_fcs"))
            if not flat and (fcs or kind != "shared"):
                x, flat = g.op("Flatten", x, axis=1), True
            for i, fc in enumerate(fcs):
                x = g.op("Relu", self.layers(fc, x, f"{name}.{kind}_fcs.{i}"))
            return x, flat

        x, flat = branch(x, "shared", flat)
        logits, deltas = branch(x, "cls", flat)[0], branch(x, "reg", flat)[0]
        return (
            self.layers(head.fc_cls, logits, f"{name}.fc_cls"),
            self.layers(head.fc_reg, deltas, f"{name}.fc_reg"),
        )

    def _mask_head(self, head: Any, x: str, name: str) -> str:
        """`FCNMaskHead.forward`: logits (n, classes, side, side)."""
        for i, conv in enumerate(head.convs):
            x = self.layers(conv, x, f"{name}.convs.{i}")
        if head.upsample is not None:
            x = self.g.op("Relu", self.layers(head.upsample, x, f"{name}.upsample"))
        return self.layers(head.conv_logits, x, f"{name}.conv_logits")

    def _of_best(self, head: Any, logits: str, delta: str) -> str:
        """The deltas (p, 4) of each box's best class."""
        g, classes = self.g, head.num_classes
        if head.reg_class_agnostic:
            return delta
        objects = g.op("Slice", logits, g.ints(0), g.ints(classes), g.ints(1))
        best = g.op("ArgMax", objects, axis=1, keepdims=1)
        each = g.op("Reshape", delta, g.ints(0, classes, 4))
        return g.op("GatherND", each, best, batch_dims=1)

    def _refined(self, head: Any, rois: str, delta: str) -> list[str]:
        """The boxes (p, 4) of each class after the last stage."""
        g, classes = self.g, int(head.num_classes)
        agnostic = head.reg_class_agnostic
        deltas = [delta] if agnostic else g.ops("Split", classes, delta, axis=1)
        boxes = [roi.refine(g, rois, unscaled(g, d, head.bbox_coder), self.limit) for d in deltas]
        return boxes * classes if agnostic else boxes

    def _final(self, boxes: list[str], scores: list[str], cfg: Any, floor: str) -> tuple[str, str]:
        """Suppress within each class, and rank: from (p, 4) and (p,) of each."""
        g = self.g
        labels = [
            g.op("Expand", g.scalar(float(c)), g.op("Shape", score))
            for c, score in enumerate(scores)
        ]
        box, score, label = (g.op("Concat", *parts, axis=0) for parts in (boxes, scores, labels))
        kept = suppress_groups(
            g,
            (box, score, label if len(labels) > 1 else ""),
            count=g.ints(cfg.max_per_img),
            iou=cfg.nms.iou_threshold,
            floor=floor,
        )
        _, best = roi.ranked(g, score, kept, out="scores")
        label = g.op("Gather", label, best, axis=0)
        label = g.op("Cast", label, to=TensorProto.INT64, out="labels")
        return g.op("Gather", box, best, axis=0, out="boxes"), label


def suppress_groups(
    g: Graph, boxes: tuple[str, str, str], *, count: str, iou: float, floor: str
) -> str:
    """As `batched_nms` of mmcv: boxes of different groups are moved apart, so that none overlap.

    Args:
        g: where the nodes go.
        boxes: boxes (m, 4), scores (m,) and numbers of their groups (m,) float32; "": one group.
        count: (1,) int64, how many may stay.
        iou: a box that overlaps a better one by more than this goes.
        floor: (1,) float32, boxes with this score or less don't count.

    Returns:
        (k,) int64, indices of the boxes that stay.
    """
    box, score, group = boxes
    if group:
        counts = g.op("Unsqueeze", g.op("Greater", score, floor), g.ints(1))
        known = g.op("Where", counts, box, g.scalar(0.0))
        known = g.op("Concat", known, g.const(np.zeros((1, 4), np.float32)), axis=0)
        step = g.op("Add", g.op("ReduceMax", known, keepdims=0), g.scalar(1.0))
        offset = g.op("Unsqueeze", g.op("Mul", group, step), g.ints(1))
        box = g.op("Add", box, offset)
    return roi.suppress(g, box, score, count=count, iou=float(iou), floor=floor)


def unscaled(g: Graph, delta: str, coder: Any) -> str:
    """What a head gives, (n, 4), as shares of the box's size."""
    if any(std != 1 for std in coder.stds):
        delta = g.op("Mul", delta, g.floats(*coder.stds))
    if any(coder.means):
        delta = g.op("Add", delta, g.floats(*coder.means))
    return delta
