"""Give a graph's inputs fixed shapes, and fold away the arithmetic that only shapes needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper, shape_inference

from robollm.core.errors import ModelFileError

Constants = dict[str, NDArray[np.generic]]
SMALL = 4096  # elements; larger constants are weights, no shape depends on their values
_LEFT = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"),
    *("QuantizeLinear", "DequantizeLinear"),
}
"""Never evaluated: chance, and 8-bit weights, which must not become floats."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of every value of a graph before it runs.

    Attributes:
        types: value -> element type and shape; axes of unknown length have no `dim_value`.
        constants: value -> array, of initializers and of what follows from them and from shapes.
    """

    types: dict[str, onnx.TypeProto] = field(default_factory=dict)
    constants: Constants = field(default_factory=dict)

    def shape(self, value: str) -> tuple[int | None, ...] | None:
        """Lengths of the axes, None for an unknown one; None if not even the rank is known."""
        kind = self.types.get(value)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)

    def is_static(self, value: str) -> bool:
        """Is the length of every axis known?"""
        shape = self.shape(value)
        return shape is not None and None not in shape


def study(model: onnx.ModelProto, fixed: Mapping[str, Sequence[int]] | None = None) -> Facts:
    """Infer every value's type and shape, node by node, with the values of shape arithmetic.

    ONNX's own inference of a whole graph gives up where a shape is computed by operators that it
    can't evaluate. Here they are evaluated, by ONNX Runtime's CPU kernels.

    Args:
        model: a model of default-domain operators.
        fixed: input -> shape, for any of the inputs.

    Raises:
        ModelFileError: `fixed` names no input or contradicts its declared shape, or the graph
            contradicts itself.
    """
    facts = Facts()
    for tensor in model.graph.initializer:
        facts.constants[tensor.name] = numpy_helper.to_array(tensor)
        facts.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    inputs = {v.name: v for v in model.graph.input if v.name not in facts.constants}
    for name, shape in (fixed or {}).items():
        if name not in inputs:
            raise ModelFileError(
                f"graph {model.graph.name!r} has no input {name!r}, it has {', '.join(inputs)}"
            )
        dims = inputs[name].type.tensor_type.shape.dim
        fits = len(dims) == len(shape) and all(
            d.dim_value == size or not d.HasField("dim_value")
            for d, size in zip(dims, shape, strict=True)
        )
        if not fits:
            declared = "x".join(str(d.dim_value or d.dim_param or "?") for d in dims)
            raise ModelFileError(
                f"input {name!r} of graph {model.graph.name!r} is {declared}, it can't be "
                f"{'x'.join(map(str, shape))}"
            )
    for name, value in inputs.items():
        kind = onnx.TypeProto()
        kind.CopyFrom(value.type)
        if fixed is not None and name in fixed:
            elem = value.type.tensor_type.elem_type
            kind = helper.make_tensor_type_proto(elem, list(fixed[name]))
        facts.types[name] = kind
    opsets = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        _learn(node, facts, model, opsets)
    return facts


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """The same graph for inputs of these shapes alone.

    Whatever follows from shapes and weights is computed now, so that nothing computes a shape any
    more: `Shape`, `Range`, the resized table of positions, anchors. No new operator comes in.

    Args:
        model: a model of default-domain operators; it is not changed.
        shapes: input -> shape. Inputs that aren't named stay as they are.

    Returns:
        A checked model with the same inputs and outputs. Values are those of `model` up to what
        ONNX Runtime's fusions round differently.

    Raises:
        ModelFileError: as `study`.
    """
    facts = study(model, shapes)
    outputs = {v.name for v in model.graph.output}
    # an output stays a node's, even if its value is known
    needed = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        known = all(o in facts.constants for o in node.output if o)
        if needed.intersection(node.output) and (not known or outputs.intersection(node.output)):
            kept.append(node)
            needed.update(name for name in node.input if name)
    stored = {t.name: t for t in model.graph.initializer}
    made = {o for node in kept for o in node.output}
    initializers = [
        stored[name] if name in stored else numpy_helper.from_array(facts.constants[name], name)
        for name in facts.constants
        if name in needed and name not in made
    ]

    def info(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        return helper.make_value_info(value.name, facts.types[value.name])

    graph = helper.make_graph(
        kept[::-1],
        model.graph.name,
        [info(v) for v in model.graph.input if v.name not in stored],
        [info(v) for v in model.graph.output],
        initializer=initializers,
    )
    result = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    onnx.checker.check_model(result)
    return result


def _learn(
    node: onnx.NodeProto, facts: Facts, model: onnx.ModelProto, opsets: Mapping[str, int]
) -> None:
    """Add what is known of a node's outputs."""
    given = [name for name in node.input if name]
    if any(a.HasField("g") for a in node.attribute):
        return  # a branch or a loop sees values that aren't its inputs
    if node.op_type == "Shape" and not node.domain:
        shape = facts.shape(node.input[0])
        if shape is not None:
            bounds = {a.name: a.i for a in node.attribute}
            part = shape[bounds.get("start", 0) : bounds.get("end", len(shape))]
            known = [size for size in part if size is not None]
            if len(known) == len(part):
                _keep(node.output[0], np.array(known, np.int64), facts)
                return
    elif all(name in facts.constants for name in given) and node.op_type not in _LEFT:
        values = _run(node, {name: facts.constants[name] for name in given}, model)
        for name, value in zip([o for o in node.output if o], values, strict=True):
            _keep(name, value, facts)
        return
    if any(name not in facts.types for name in given):
        return  # after an operator that ONNX doesn't know
    try:
        schema = defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    except (defs.SchemaError, KeyError):
        return
    small = {n: facts.constants[n] for n in given if n in facts.constants}
    data = {n: numpy_helper.from_array(v, n) for n, v in small.items() if v.size <= SMALL}
    types = {n: facts.types[n] for n in given}
    try:
        facts.types.update(
            shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=list(model.opset_import)
            )
        )
    except shape_inference.InferenceError as e:
        text = str(e).strip().splitlines()[0]
        raise ModelFileError(f"node {node.name!r} contradicts its inputs: {text}") from e


def _keep(name: str, value: NDArray[np.generic], facts: Facts) -> None:
    facts.constants[name] = value
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    facts.types[name] = helper.make_tensor_type_proto(kind, value.shape)


def _run(
    node: onnx.NodeProto, feed: Constants, model: onnx.ModelProto
) -> list[NDArray[np.generic]]:
    """What one node makes of constants, as ONNX Runtime computes it."""
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feed.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs)
    one = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        one.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values: list[NDArray[np.generic]] = session.run(None, feed)
    return values
