"""8-bit activations as TensorRT wants them: signed, with their zero at 0."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from robollm.core.errors import ModelFileError

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def has_unsigned(model: onnx.ModelProto) -> bool:
    """Does the graph quantise to uint8?"""
    return any(_unsigned(model))


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with int8 in the place of uint8.

    A range [low, high], as scale and zero point say it, becomes [-m, m] with m the larger of its
    ends: nothing that was inside is clipped now, but steps are up to twice as wide. So this is
    another arithmetic than the one that was accepted by task metrics.

    Args:
        model: with pairs of `QuantizeLinear` and `DequantizeLinear`; it is not changed.

    Raises:
        ModelFileError: a scale or a zero point is no initializer.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {t.name: t for t in copy.graph.initializer}
    for scale, zero in sorted(set(_unsigned(copy))):
        if scale not in stored or zero not in stored:
            raise ModelFileError(
                f"the scale {scale!r} or the zero point {zero!r} is computed in the graph",
                fix="export the variant int8-static again",
            )
        step = numpy_helper.to_array(stored[scale])
        low = numpy_helper.to_array(stored[zero]).astype(np.float32)
        widest = np.maximum(low, 255 - low) * step / 127
        stored[scale].CopyFrom(numpy_helper.from_array(widest.astype(step.dtype), scale))
        stored[zero].CopyFrom(numpy_helper.from_array(np.zeros(low.shape, np.int8), zero))
    return copy


def _unsigned(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Names of the scales and zero points that make uint8."""
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _PAIR:
            zero = node.input[2] if len(node.input) > 2 else ""
            # without a zero point QuantizeLinear makes uint8, but then nothing names its range
            if kinds.get(zero) == TensorProto.UINT8:
                yield node.input[1], zero
