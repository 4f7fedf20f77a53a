"""Random weights that behave: different pictures give different features, plain ones few boxes.

Every matrix is drawn from one seeded generator. Then biases and two gains are set so that the
heads' outputs are centred on a handful of synthetic pictures (see `pictures`); nothing is
trained, and no picture of a real cell is involved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from robollm.export.beit3_graph import EncoderShape
from robollm.export.detector_graph import (
    STRIDES,
    DetectorRules,
    build_proposals,
    build_rois,
    detector_shapes,
)
from robollm.export.graphs import Array

Weights = dict[str, Array]
SHARE = 0.6  # of the proposals on a synthetic tote score over .5 before suppression
BRIGHT = 0.8  # of a filter's answer to brightness is taken away
GAIN = 3.0  # brings a patch's content to the size of its bias
SPREAD = 1.5  # standard deviation of a head's logits over synthetic pictures


def encoder_weights(rng: np.random.Generator, shape: EncoderShape) -> Weights:
    """Draw an encoder whose tokens differ where the picture does.

    Gains are larger than a training's: attention that starts flat would make every CLS alike.

    Returns:
        float32, named as `beit3_graph` says.
    """
    weights: Weights = {}
    for name, size in shape.expected().items():
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            weights[name] = np.ones(size, np.float32)
        elif name.endswith(".bias"):
            weights[name] = np.zeros(size, np.float32)
        else:
            gain = 2.0 if ".attn.q." in name or ".attn.k." in name else 1.0
            weights[name] = _normal(rng, size, gain / math.sqrt(size[-1]))
    weights["patch_embed.weight"] = patch_filters(rng, shape.dim, shape.patch)
    # what an empty patch looks like; without it LayerNorm would blow up noise and positions
    weights["patch_embed.bias"] = _normal(rng, (shape.dim,), 1.0)
    weights["pos_embed"] = _normal(rng, (1 + shape.grid**2, shape.dim), 0.02)
    weights["cls_token"] = _normal(rng, (1, 1, shape.dim), 1.0)
    return weights


def patch_filters(rng: np.random.Generator, count: int, patch: int) -> Array:
    """Smooth random colour filters, (count, 3, patch, patch) float32.

    Each is a sum of cosines of up to 3 waves a patch; low frequencies weigh more, as they do in
    pictures, and make the response to a shift of a few pixels small.
    """
    waves = np.arange(7)
    steps = (np.arange(patch) + 0.5) / patch
    basis = np.cos(np.pi * waves[:, None] * steps) / patch  # (7, patch)
    falloff = 1 / (1 + np.hypot(waves[:, None], waves[None])) ** 2
    amplitude = rng.normal(size=(count, 3, 7, 7)) * falloff
    # hue counts, brightness hardly: it is the lamp's more than the product's
    amplitude[:, :, 0, 0] -= BRIGHT * amplitude[:, :, 0, 0].mean(1, keepdims=True)
    filters = np.einsum("kcuv,uy,vx->kcyx", amplitude, basis, basis)
    scaled: Array = (filters * GAIN).astype(np.float32)
    return scaled


def centred_linear(
    rng: np.random.Generator, features: NDArray[np.float32], outputs: int, *, spread: float
) -> tuple[Array, Array]:
    """A random linear layer whose outputs over `features` have mean 0 and the given spread.

    Args:
        rng: where the weights come from.
        features: (N, C) float32, what synthetic pictures give.
        outputs: number of outputs, D.
        spread: standard deviation of each output over the pictures.

    Returns:
        weight (D, C) and bias (D,), float32.
    """
    weight = _normal(rng, (outputs, features.shape[1]), 1.0)
    y = features @ weight.T
    weight *= _round(spread / np.maximum(y.std(0), 1e-6))[:, None]
    return weight, _round(-(features @ weight.T).mean(0))


def detector_weights(
    rng: np.random.Generator,
    size: tuple[int, int, int],
    maps: NDArray[np.float32],
    plain_maps: NDArray[np.float32],
    *,
    patch: int,
    rules: DetectorRules,
) -> Weights:
    """Draw a detector that answers to "here the picture isn't plain".

    Random filters without an answer to an even region, a ReLU, and a read-out with positive
    weights: the score grows with what varies in the box. Biases take away what plain pictures
    still give; the objectness and the score are shifted and scaled on synthetic totes.

    Args:
        rng: where the weights come from.
        size: channels of the map, of the pyramid, and of the box head.
        maps: (N, C, h, w) float32, maps of synthetic totes.
        plain_maps: (M, C, h, w) float32, maps of constant pictures.
        patch: canvas px per step of the map.
        rules: the detector's constants.

    Returns:
        float32, named as `detector_shapes` says.
    """
    weights: Weights = {}
    for name, shape in detector_shapes(*size).items():
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 1
        gain = {"rpn.deltas.weight": 0.1, "box.deltas.weight": 0.5}.get(name, 1.0)
        draw = _normal(rng, shape, gain / math.sqrt(fan_in))
        weights[name] = np.zeros(shape, np.float32) if name.endswith(".bias") else draw
    for name in ("rpn.objectness.weight", "box.score.weight"):
        weights[name] = np.abs(weights[name])
    # one kernel for all four places of the x2 level: a random one would print a chequerboard
    weights["fpn.8.up.weight"][:] = weights["fpn.8.up.weight"][..., :1, :1]
    conv, fc = weights["rpn.conv.weight"], weights["box.fc.weight"]
    weights["rpn.conv.weight"] = conv - conv.mean((2, 3), keepdims=True)
    cells = fc.reshape(len(fc), -1, 49)
    weights["box.fc.weight"] = (cells - cells.mean(2, keepdims=True)).reshape(fc.shape)
    weights["mask.prior"] = _mask_prior()

    def propose(values: Sequence[str], inputs: Array) -> list[list[Array]]:
        model = build_proposals(weights, patch=patch, rules=rules)
        return run(model, ({"map": x} for x in inputs[:, None]), values)

    def probe(values: Sequence[str], inputs: Array) -> list[Array]:
        """Each value of the first graph over all the inputs, as one row."""
        return [np.concatenate(v) for v in zip(*propose(values, inputs), strict=True)]

    def probe_rois(value: str, inputs: Array) -> Array:
        """A value of the second graph over all the inputs, as one row."""
        model = build_rois(weights, rules=rules)
        count = np.array([rules.proposals])
        names = [i.name for i in model.graph.input if i.name != "proposals"]
        feeds = (
            {**dict(zip(names, found, strict=True)), "proposals": count}
            for found in propose(names, inputs)
        )
        return np.concatenate([x for (x,) in run(model, feeds, [value])])

    hidden = probe([f"rpn.hidden.{s}" for s in STRIDES], plain_maps)
    weights["rpn.conv.bias"] = _round(-np.mean([x.mean((0, 2, 3)) for x in hidden], 0))
    logits = np.concatenate(probe([f"rpn.logit.{s}" for s in STRIDES], maps))
    _standardise(weights, "rpn.objectness", float(logits.mean()), float(logits.std()))
    weights["box.fc.bias"] = _round(-probe_rois("box.hidden", plain_maps).mean(0))
    scores = probe_rois("box.logit", maps)
    _standardise(weights, "box.score", float(np.quantile(scores, 1 - SHARE)), float(scores.std()))
    residual = probe_rois("mask.residual", maps)
    _standardise(weights, "mask.logit", float(residual.mean()), float(residual.std()))
    return weights


def run(
    model: onnx.ModelProto, feeds: Iterable[Mapping[str, NDArray[Any]]], outputs: Sequence[str]
) -> list[list[Array]]:
    """Run a model on one set of inputs after another, and give any of its values.

    Args:
        model: the model.
        feeds: arrays by name of input.
        outputs: names of outputs or of inner values.

    Returns:
        For every feed the outputs, in the order asked for.
    """
    import onnxruntime as ort  # heavy, so only where it is used

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {o.name for o in model.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in outputs if n not in known)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # the order of sums, hence the bytes, never changes
    options.log_severity_level = 3
    session = ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [session.run(list(outputs), dict(feed)) for feed in feeds]


def _standardise(weights: Weights, layer: str, zero: float, spread: float) -> None:
    """Rescale a layer so that the value `zero` becomes 0 and `spread` becomes SPREAD."""
    gain = _round(np.array(SPREAD / max(spread, 1e-6)))
    weights[f"{layer}.weight"] = weights[f"{layer}.weight"] * gain
    weights[f"{layer}.bias"] = _round((weights[f"{layer}.bias"] - zero) * gain)


def _mask_prior() -> Array:
    """Logits of an ellipse that fills its box, (1, 1, 28, 28) float32: no mask is empty."""
    steps = (np.arange(28) + 0.5) / 14 - 1
    radius = np.hypot(steps[:, None], steps[None])
    return (4 * (1.0 - radius)).astype(np.float32)[None, None]


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> Array:
    return (rng.standard_normal(shape, np.float32) * np.float32(std)).astype(np.float32)


def _round(values: NDArray[np.floating]) -> Array:
    """Drop the bits in which two CPUs may differ."""
    return np.round(values, 3).astype(np.float32)
