"""What of a graph TensorRT would refuse, by its own published list, told before a GPU is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, defs, helper

from robollm.export.tensorrt.operators import (
    MAX_OPSET,
    MIN_OPSET,
    OPERATORS,
    TOPK_MAX,
    TYPES,
    VERSION,
)
from robollm.export.tensorrt.static import Facts, study

DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress"}
"""Operators whose output's shape depends on values. TensorRT runs the first two, but what comes
after them has no shape that an engine could be laid out for."""
_NAMES: dict[int, str] = {number: name for name, number in TYPES.items()}
_MADE = {"Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike"}
_RESIZE: dict[str, set[str] | set[int]] = {
    "mode": {"nearest", "linear"},
    "coordinate_transformation_mode": {
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    },
    "nearest_mode": {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"},
    "keep_aspect_ratio_policy": {"stretch"},
    "antialias": {0},
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that TensorRT does not take, or takes otherwise.

    Attributes:
        kind: "operator", "type", "restriction" or "shape".
        node: the node's name; empty if it is about the whole graph.
        operator: the node's operator; empty if it is about the whole graph.
        text: what was seen and what is wanted.
    """

    kind: str
    node: str
    operator: str
    text: str

    def __str__(self) -> str:
        """One line."""
        where = f"{self.operator} {self.node}: " if self.operator else ""
        return f"[{self.kind}] {where}{self.text}"


def check(
    model: onnx.ModelProto, fixed: Mapping[str, Sequence[int]] | None = None
) -> list[Finding]:
    """Compare a graph with TensorRT's operator list.

    Args:
        model: the graph.
        fixed: input -> shape. With it every shape in the graph must come out static; without it
            only operators are told whose output's shape depends on values.

    Returns:
        Findings in the order of the nodes; none if TensorRT promises to take everything.

    Raises:
        ModelFileError: `fixed` doesn't fit the graph, or the graph contradicts itself.
    """
    facts = study(model, fixed)
    found = list(_opset(model))
    ends = {v.name for v in (*model.graph.input, *model.graph.output)}
    stored = {t.name for t in model.graph.initializer}
    stored |= {o for n in model.graph.node if n.op_type == "Constant" for o in n.output}
    versions = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        found += _operator(node)
        found += _types(node, facts, ends, versions.get(node.domain, MAX_OPSET))
        found += _restrictions(node, facts, stored)
        found += _shapes(node, facts, strict=fixed is not None)
    return found


def _opset(model: onnx.ModelProto) -> Iterator[Finding]:
    for o in model.opset_import:
        if not o.domain and not MIN_OPSET <= o.version <= MAX_OPSET:
            text = f"opset {o.version}, TensorRT {VERSION} reads {MIN_OPSET} to {MAX_OPSET}"
            yield Finding("operator", "", "", text)
    if model.functions:
        yield Finding("operator", "", "", "functions of the model's own aren't looked into")


def _operator(node: onnx.NodeProto) -> Iterator[Finding]:
    if node.domain not in ("", "ai.onnx"):
        yield _finding("operator", node, f"is of the domain {node.domain!r}: a plugin is needed")
    elif node.op_type not in OPERATORS:
        yield _finding("operator", node, f"TensorRT {VERSION} hasn't got it")
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _operator(inner)


def _types(node: onnx.NodeProto, facts: Facts, ends: set[str], opset: int) -> Iterator[Finding]:
    operator = OPERATORS.get(node.op_type)
    if operator is None or node.domain:
        return
    for name in node.output:
        kind = _elem(facts, name)
        if kind == TensorProto.DOUBLE:
            yield _finding("type", node, f"{name!r} is double: TensorRT makes it fp32")
        elif kind and kind not in _NAMES:
            yield _finding("type", node, f"{name!r} is {_name(kind)}, a type TensorRT hasn't got")
        elif kind == TensorProto.UINT8 and name not in ends:
            text = f"{name!r} is uint8, which only inputs and outputs of the network may be"
            yield _finding("type", node, text)
    data = node.output[:1] if node.op_type in _MADE else []
    for name in (*_data_inputs(node, opset), *data):
        kind = _elem(facts, name)
        if kind and kind in _NAMES and _NAMES[kind] not in operator.types:
            wanted = ", ".join(t for t in TYPES if t in operator.types)
            yield _finding("type", node, f"{name!r} is {_NAMES[kind]}, want one of {wanted}")


def _data_inputs(node: onnx.NodeProto, opset: int) -> list[str]:
    """The inputs of the first one's type: what the list's types are about."""
    schema = defs.get_schema(node.op_type, opset)
    kinds = [i.type_str for i in schema.inputs]
    if not kinds or node.op_type == "ConstantOfShape":
        return []
    last = len(kinds) - 1  # which may be repeated
    named = [(n, kinds[min(i, last)]) for i, n in enumerate(node.input) if n]
    return [name for name, kind in named if kind == kinds[0]]


def _shapes(node: onnx.NodeProto, facts: Facts, *, strict: bool) -> Iterator[Finding]:
    if node.op_type in DATA_DEPENDENT:
        yield _finding("shape", node, "its output's shape depends on values")
    elif strict and all(facts.is_static(name) for name in node.input if name):
        for name in node.output:
            if name and not facts.is_static(name):
                shape = facts.shape(name)
                axes = "?" if shape is None else "x".join(str(s or "?") for s in shape)
                text = f"the shape of {name!r} is {axes}: it depends on values, or isn't inferred"
                yield _finding("shape", node, text)


def _restrictions(node: onnx.NodeProto, facts: Facts, stored: set[str]) -> Iterator[Finding]:
    operator = OPERATORS.get(node.op_type)
    if operator is None or node.domain or not operator.note:
        return
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    test = _TESTS.get("Reduce" if node.op_type.startswith("Reduce") else node.op_type)
    if test is None:
        yield _finding("restriction", node, f"look yourself: {operator.note}")
    elif seen := test(_Seen(node, attributes, facts, stored)):
        yield _finding("restriction", node, f"{seen}; TensorRT wants: {operator.note}")


@dataclass(frozen=True, slots=True)
class _Seen:
    node: onnx.NodeProto
    attributes: Mapping[str, Any]
    facts: Facts
    stored: set[str]

    def input(self, index: int) -> str:
        return self.node.input[index] if index < len(self.node.input) else ""

    def constant(self, index: int) -> bool:
        name = self.input(index)
        return not name or name in self.facts.constants


def _resize(s: _Seen) -> str:
    for key, allowed in _RESIZE.items():
        value = s.attributes.get(key)
        value = value.decode() if isinstance(value, bytes) else value
        if value is not None and value not in allowed:
            return f"{key} is {value}"
    return ""


def _topk(s: _Seen) -> str:
    k = s.facts.constants.get(s.input(1))
    if s.attributes.get("sorted", 1) != 1:
        return "it isn't sorted"
    return f"K is {int(k.item())}" if k is not None and int(k.item()) > TOPK_MAX else ""


def _zero_point(s: _Seen) -> str:
    name = s.input(2)
    if name and name not in s.facts.constants:
        return f"the zero point {name!r} is no constant"
    return f"the zero point {name!r} isn't 0" if name and s.facts.constants[name].any() else ""


def _pool(s: _Seen) -> str:
    if any(d != 1 for d in s.attributes.get("dilations", ())):
        return f"dilations are {list(s.attributes['dilations'])}"
    if len(s.attributes["kernel_shape"]) not in (2, 3):
        return f"the kernel has {len(s.attributes['kernel_shape'])} axes"
    return _first_output(s)


def _first_output(s: _Seen) -> str:
    return "it has a second output" if any(s.node.output[1:]) else ""


def _axes(s: _Seen) -> str:
    return "" if s.constant(1) else f"axes {s.input(1)!r} are computed"


def _stored_axes(s: _Seen) -> str:
    name = s.input(1)
    return "" if not name or name in s.stored else f"axes {name!r} are computed"


def _reduction(s: _Seen) -> str:
    value = s.attributes.get("reduction", b"none").decode()
    return "" if value == "none" else f"reduction is {value}"


def _no_strings(s: _Seen) -> str:
    odd = sorted({"sparse_value", "value_string", "value_strings"} & s.attributes.keys())
    return f"it has {', '.join(odd)}" if odd else ""


_TESTS: dict[str, Callable[[_Seen], str]] = {
    "AveragePool": _pool,
    "Constant": _no_strings,
    "CumSum": _axes,
    "DequantizeLinear": _zero_point,
    "LayerNormalization": _first_output,
    "LpPool": _pool,
    "MaxPool": _pool,
    "OneHot": _axes,
    "QuantizeLinear": _zero_point,
    "Reduce": _stored_axes,
    "Resize": _resize,
    "ScatterND": _reduction,
    "Squeeze": _axes,
    "TopK": _topk,
    "Unsqueeze": _axes,
}


def _elem(facts: Facts, name: str) -> int:
    kind = facts.types.get(name)
    return int(kind.tensor_type.elem_type) if kind is not None else TensorProto.UNDEFINED


def _name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _finding(kind: str, node: onnx.NodeProto, text: str) -> Finding:
    return Finding(kind, node.name or (node.output[0] if node.output else ""), node.op_type, text)
