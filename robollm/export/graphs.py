"""A thin builder over `onnx.helper`: values are strings, and every node gets a stable name.

Names come from a counter, never from a clock or an address, so that the same calls give the
same bytes. Only operators of the default ONNX domain are meant to be used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from robollm.runtime.card import OPSET

IR_VERSION = 8
EPS = 1e-5
"""Of every LayerNorm: BEiT-3's, and PyTorch's default."""

Array = NDArray[np.float32]
Shape = Sequence[int | str]


class Graph:
    """One ONNX graph under construction.

    A value is the string that names it. `op` appends a node and gives its output's name.

    Args:
        name: the graph's name, which is also shown by viewers.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Shape, *, dtype: int = TensorProto.FLOAT) -> str:
        """Declare an input, float32 by default. A string in `shape` names a dynamic axis."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, shape: Shape, *, dtype: int = TensorProto.FLOAT) -> None:
        """Declare the value called `name` (give it with `out=`) as an output."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def const(self, value: NDArray[Any], name: str = "") -> str:
        """Store an array as an initializer, so that the runtime can prepack it."""
        name = name or self._fresh("const")
        if name in self._constants:
            raise ValueError(f"constant {name!r} is already in graph {self.name!r}")
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def once(self, value: NDArray[Any], name: str) -> str:
        """Store an array that several parts of the graph use, under one name of its own."""
        return name if name in self._constants else self.const(value, name)

    def floats(self, *values: float) -> str:
        """A shared 1-D float32 constant."""
        return self._shared(np.array(values, np.float32), "f32")

    def scalar(self, value: float) -> str:
        """A shared 0-D float32 constant."""
        return self._shared(np.array(value, np.float32), "f32s")

    def ints(self, *values: int) -> str:
        """A shared 1-D int64 constant: axes, shapes, indices."""
        return self._shared(np.array(values, np.int64), "i64")

    def int0(self, value: int) -> str:
        """A shared 0-D int64 constant: an index that drops its axis."""
        return self._shared(np.array(value, np.int64), "i64s")

    def op(self, op_type: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Append a node with one output and give that output's name.

        Args:
            op_type: an operator of the default domain.
            inputs: names of values; "" leaves an optional input out.
            out: the output's name; a fresh one without it.
            attributes: the operator's attributes.
        """
        return self.ops(op_type, 1, *inputs, out=out, **attributes)[0]

    def ops(
        self, op_type: str, count: int, *inputs: str, out: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node with `count` outputs; `out` names the first."""
        outs = [self._fresh(op_type) for _ in range(count)]
        outs[0] = out or outs[0]
        self._nodes.append(
            helper.make_node(op_type, list(inputs), outs, name=f"{outs[0]}/{op_type}", **attributes)
        )
        return outs

    def dim(self, value: str, axis: int) -> str:
        """The length of one axis as a 1-D int64 value."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def linear(self, x: str, weight: Array, bias: Array | None, name: str, *, out: str = "") -> str:
        """A linear layer over the last axis: x @ weight.T + bias.

        Args:
            x: (..., I) float32.
            weight: (O, I) float32, as torch keeps it; stored transposed, which is what ONNX
                Runtime packs once at load.
            bias: (O,) float32, or None for none.
            name: prefix of the constants. That matrices end in `.weight` is what int8 goes by.
            out: the output's name.
        """
        matrix = self.const(weight.T, f"{name}.weight")
        if bias is None:
            return self.op("MatMul", x, matrix, out=out)
        return self.op(
            "Add", self.op("MatMul", x, matrix), self.const(bias, f"{name}.bias"), out=out
        )

    def layer_norm(
        self, x: str, weight: Array, bias: Array, name: str, *, eps: float = EPS, out: str = ""
    ) -> str:
        """LayerNorm over the last axis; `weight` and `bias` are (C,) float32."""
        return self.op(
            "LayerNormalization",
            x,
            self.const(weight, f"{name}.weight"),
            self.const(bias, f"{name}.bias"),
            axis=-1,
            epsilon=eps,
            out=out,
        )

    def gelu(self, x: str) -> str:
        """Exact GELU, x/2 (1 + erf(x / sqrt 2)), in the form that ONNX Runtime fuses."""
        erf = self.op("Erf", self.op("Div", x, self.scalar(math.sqrt(2))))
        return self.op(
            "Mul", self.op("Mul", x, self.op("Add", erf, self.scalar(1.0))), self.scalar(0.5)
        )

    def model(self) -> onnx.ModelProto:
        """The finished model. No clock, no path, no user name in it."""
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            initializer=list(self._constants.values()),
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="robollm",
        )

    def _shared(self, value: NDArray[Any], kind: str) -> str:
        name = f"{kind}:{','.join(str(v) for v in value.reshape(-1).tolist())}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"
