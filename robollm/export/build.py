"""All graphs of a bundle, from what `collect` found."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from robollm.core.errors import ConfigError
from robollm.export.beit3_graph import build_backbone
from robollm.export.cascade_graph import build_proposals, build_rois
from robollm.export.collect import Collected
from robollm.export.graphs import Array
from robollm.export.head_graphs import (
    Compare,
    Linear,
    build_defects,
    build_defects_sequence,
    build_fusion,
    build_identification,
    build_regions,
)
from robollm.export.runs import TASKS

Graphs = dict[str, onnx.ModelProto]


def build_graphs(parts: Collected, *, adapters: str = "switched") -> Graphs:
    """Write every graph that the parts make possible.

    Args:
        parts: from `collect`.
        adapters: "switched" has one backbone that takes each row's task;
            "baked" has the adapters of one task always on.

    Returns:
        role -> model, in fp32, checked by `onnx.checker`.

    Raises:
        ConfigError: baked adapters are asked for that not all tasks use.
    """
    patch = parts.patch
    graphs = {
        "backbone": _backbone(parts, adapters),
        "proposals": build_proposals(parts.detector, canvas_hw=parts.tote.hw, patch=patch),
        "rois": build_rois(parts.detector, canvas_hw=parts.tote.hw),
        **_identification(parts),
        **_defects(parts),
        "regions": build_regions(parts.encoder.settings.dim, patch=patch),
    }
    for model in graphs.values():
        onnx.checker.check_model(model, full_check=True)
    return graphs


def check_adapters(parts: Collected, adapters: str) -> None:
    """Refuse to bake adapters into an encoder that serves other tasks, too.

    Raises:
        ConfigError: the tasks don't all use the same adapters. Each task has its own, so with
            three tasks that is whenever there are any.
    """
    if adapters == "baked" and parts.adapters:
        without = [t for t in TASKS if t not in parts.adapters]
        plain = f", and {', '.join(without)} without any" if without else ""
        raise ConfigError(
            f"tasks see the encoder differently ({', '.join(parts.adapters)} with adapters of "
            f"their own{plain}): baked, the bundle would store the encoder once per task",
            fix="use --adapters switched: one encoder, a task per row",
        )


def _backbone(parts: Collected, adapters: str) -> onnx.ModelProto:
    from robollm.train.adapters.multiway import settings_of_task

    check_adapters(parts, adapters)
    encoder = parts.encoder
    s = encoder.settings
    return build_backbone(
        {k: _array(v) for k, v in encoder.state_dict().items()},
        heads=s.heads,
        window=s.window,
        global_blocks=s.global_blocks,
        adapters=parts.adapters,
        alphas={t: settings_of_task(encoder, t).alpha for t in parts.adapters},
    )


def _identification(parts: Collected) -> Graphs:
    head = parts.identification
    projection = _array(head.projection.weight)
    several = head.views > 1
    graphs = {"identification": build_identification(projection, pool=head.pool, features=several)}
    if several:
        first, _, second = head.fusion
        graphs["fusion"] = build_fusion(
            _array(head.missing), _linear(first), _linear(second), projection
        )
    return graphs


def _defects(parts: Collected) -> Graphs:
    head = parts.defects
    norm = _array(head.norm.weight), _array(head.norm.bias)
    compare = None
    if head.compare is not None:
        first, _, second = head.compare
        compare = Compare(_array(head.no_reference), _linear(first), _linear(second))
    several = parts.frames > 1 or compare is not None
    last = _linear(head.classify)
    graphs = {"defects": build_defects(norm, *last, compare=compare, features=several)}
    if several:
        score = None if head.pool.score is None else _linear(head.pool.score)
        graphs["defects_sequence"] = build_defects_sequence(
            *last, pool=head.pool.way, score=score, compare=compare
        )
    return graphs


def _linear(layer: Any) -> Linear:
    return _array(layer.weight), _array(layer.bias)


def _array(weight: Any) -> Array:
    return np.asarray(weight.detach().cpu().numpy(), np.float32)
