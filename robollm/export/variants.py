"""The same graph in fewer bytes: half precision, and 8-bit matrices.

All variants take and give float32. Constants called `*.weight` that are the right-hand factor of
a MatMul are the linear layers, nearly all bytes and most of the work; int8 concerns these and
nothing else. What stays float: the patch embedding (a convolution on raw pixels, little work);
the products inside attention, whose both factors are activations (in 8 bits they brought two
trained encoders 5 times as far from float32, and saved no time); adapters that rows choose;
every normalisation, softmax and sum.

8-bit weights are signed and symmetric, with one scale per output channel; activations are
unsigned. Processors with VNNI multiply that pair exactly, so weights use the whole range (7 bits
doubled the error). Those without add pairs of products in 16 bits, which can overflow: don't run
these variants there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from robollm.core.errors import ConfigError, ModelFileError

Feed = Mapping[str, NDArray[Any]]

KEPT_FLOAT32 = (
    "LayerNormalization", "InstanceNormalization", "BatchNormalization",
    "Softmax", "ReduceL2", "ReduceMean", "ReduceSum",
)  # fmt: skip
"""Operators of the half-precision variant that stay float32, beside those that must. The sums in
normalisation, softmax and means run over up to thousands of terms, and squares of 256 and more
don't fit."""
_OF_BOXES = {"NonMaxSuppression": (0, 1), "RoiAlign": (1,)}
_BOXES = ("boxes", "candidates")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
TAIL = 0.01
"""Percent of an activation's numbers that may be clipped, per end and picture. On two trained
encoders such ranges came 10 % closer to float32 (1 - cosine of the map's tokens) than whole ones,
and 0.1 % was worse than either."""
LARGEST = 2**31 - 1
"""Bytes of a protobuf message, at most."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in half precision; inputs and outputs stay float32.

    So do boxes and their scores, from the layers that give them on: beyond 1024 px half precision
    counts whole pixels, and an area of 256 x 256 px is infinite. ONNX Runtime's CPU provider runs
    it, too, in float32 with rounded weights.

    Args:
        model: float32; it stays as it is.

    Raises:
        ModelFileError: the model is too large.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    _check_size(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half: onnx.ModelProto = convert_float_to_float16(
        copy,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_FLOAT32],
        node_block_list=_box_arithmetic(model.graph),
    )
    del half.graph.value_info[:]
    _drop_repeated_casts(half.graph)
    _join_float32(half.graph)
    OnnxModel.graph_topological_sort(half.graph)
    return half


def _box_arithmetic(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes between the layers and where boxes and their scores are used."""
    maker = {name: node for node in graph.node for name in node.output}
    asked = [o.name for o in graph.output if o.name in _BOXES]
    for node in graph.node:
        asked += [node.input[i] for i in _OF_BOXES.get(node.op_type, ())]
    found: dict[str, None] = {}
    while asked:
        made = maker.get(asked.pop())
        if made is not None and made.op_type not in _LAYERS and made.name not in found:
            found[made.name] = None
            asked += made.input
    return list(found)


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """The converter writes a Cast once per reader, under one name; ONNX wants it once."""
    made: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in made:
            continue
        made.update(node.output)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _join_float32(graph: onnx.GraphProto) -> None:
    """The converter rounds what one float32 node gives to another to half; hand it over whole."""
    casts = [node for node in graph.node if node.op_type == "Cast"]
    half = onnx.TensorProto.FLOAT16
    whole = {c.output[0]: c.input[0] for c in casts if c.attribute[0].i == half}
    for cast in casts:
        if cast.attribute[0].i != half:
            cast.input[0] = whole.get(cast.input[0], cast.input[0])
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    kept = [node for node in graph.node if node.op_type != "Cast" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(kept)


def to_int8_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """8-bit weights; activations are brought to 8 bits by their range in each run.

    Needs no pictures. The operators are those of ONNX (`DynamicQuantizeLinear`,
    `MatMulInteger`), which ONNX Runtime fuses.

    Args:
        model: float32; it stays as it is.

    Raises:
        ModelFileError: the model is too large, or has no linear layer.
    """
    edit = _Edit(model)
    seen: set[str] = set()
    for node in model.graph.node:
        if not edit.is_linear(node):
            edit.keep(node)
            continue
        x, y = node.input[0], node.output[0]
        small, scale, zero = (f"{x}/{part}" for part in ("int8", "scale", "zero"))
        if x not in seen:
            seen.add(x)
            edit.add("DynamicQuantizeLinear", [x], [small, scale, zero])
        weight, scales, zeros = edit.eight_bits(node.input[1])
        edit.add("MatMulInteger", [small, weight, zero, zeros], [f"{y}/int32"])
        edit.add("Cast", [f"{y}/int32"], [f"{y}/float"], to=onnx.TensorProto.FLOAT)
        edit.add("Mul", [scale, scales], [f"{y}/scale"])
        edit.add("Mul", [f"{y}/float", f"{y}/scale"], [y])
    return edit.model()


def to_int8_static(model: onnx.ModelProto, feeds: Iterable[Feed]) -> onnx.ModelProto:
    """8-bit weights and activations, whose ranges are taken from real pictures.

    Written as pairs of `QuantizeLinear` and `DequantizeLinear` around the linear layers' factors
    (QDQ), which ONNX Runtime, OpenVINO and TensorRT all read.

    Args:
        model: float32; it stays as it is.
        feeds: inputs of real pictures, by name; some dozens are enough.

    Raises:
        ModelFileError: the model is too large, or has no linear layer.
        ConfigError: there is no feed.
    """
    edit = _Edit(model)
    values = dict.fromkeys(node.input[0] for node in model.graph.node if edit.is_linear(node))
    ranges = _ranges(model, list(values), feeds)
    seen: set[str] = set()
    for node in model.graph.node:
        if not edit.is_linear(node):
            edit.keep(node)
            continue
        x, name = node.input
        if x not in seen:
            seen.add(x)
            scale, zero = _grid(*ranges[x])
            grid = [edit.constant(f"{x}/scale", scale), edit.constant(f"{x}/zero", zero)]
            edit.add("QuantizeLinear", [x, *grid], [f"{x}/int8"])
            edit.add("DequantizeLinear", [f"{x}/int8", *grid], [f"{x}/float"])
        edit.add("DequantizeLinear", edit.eight_bits(name), [f"{name}/float"], axis=1)
        edit.add("MatMul", [f"{x}/float", f"{name}/float"], [node.output[0]])
    return edit.model()


def _grid(low: float, high: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and zero point, 0-D, of the 256 numbers from `low` to `high`; 0 is one of them."""
    scale = np.float32(max(high - low, 1e-12) / 255)
    return np.array(scale), np.array(np.rint(-low / scale), np.uint8)


def _check_size(model: onnx.ModelProto) -> None:
    size = model.ByteSize()
    if size > LARGEST:
        raise ModelFileError(
            f"graph {model.graph.name!r} has {size / 2**30:.2f} GiB, protobuf takes less than 2",
            fix="export a smaller encoder, or store its weights outside of the file by hand",
        )


class _Edit:
    """A copy of a model in which linear layers are written anew.

    Args:
        model: it stays as it is.

    Raises:
        ModelFileError: the model is too large, or has no linear layer.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        _check_size(model)
        self._source = model
        self._old = {t.name: t for t in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._new: dict[str, onnx.TensorProto] = {}
        self._gone: set[str] = set()
        if not any(self.is_linear(node) for node in model.graph.node):
            raise ModelFileError(
                f"graph {model.graph.name!r} has no linear layer, a MatMul whose second factor is "
                "a constant called *.weight",
                fix="leave this graph in float32",
            )

    def is_linear(self, node: onnx.NodeProto) -> bool:
        """Whether it is a linear layer."""
        if node.op_type != "MatMul":
            return False
        name = node.input[1]
        return name.endswith(".weight") and name in self._old and len(self._old[name].dims) == 2

    def keep(self, node: onnx.NodeProto) -> None:
        """Take a node over as it is."""
        self._nodes.append(node)

    def add(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Append a new node."""
        name = f"{outputs[0]}/{op}"
        self._nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Store an array."""
        self._new[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def eight_bits(self, name: str) -> list[str]:
        """Store a matrix (I, O) as int8 instead: names of integers, scales (O,) and zeros (O,)."""
        if name not in self._gone:
            self._gone.add(name)
            weight = numpy_helper.to_array(self._old[name])
            largest = np.abs(weight).max(axis=0)
            scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            self.constant(f"{name}/int8", np.rint(weight / scale).astype(np.int8))
            self.constant(f"{name}/scale", scale)
            self.constant(f"{name}/zero", np.zeros(len(scale), np.int8))
        return [f"{name}/int8", f"{name}/scale", f"{name}/zero"]

    def model(self) -> onnx.ModelProto:
        """The copy."""
        source = self._source.graph
        kept = [t for t in source.initializer if t.name not in self._gone]
        graph = helper.make_graph(
            self._nodes,
            source.name,
            list(source.input),
            list(source.output),
            initializer=[*kept, *self._new.values()],
        )
        return helper.make_model(
            graph,
            opset_imports=list(self._source.opset_import),
            ir_version=self._source.ir_version,
            producer_name=self._source.producer_name,
        )


def _ranges(
    model: onnx.ModelProto, values: list[str], feeds: Iterable[Feed]
) -> dict[str, tuple[float, float]]:
    """The range of each value over all feeds; each leaves out a `TAIL` at both ends."""
    import onnxruntime as ort

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    del watched
    found: dict[str, tuple[float, float]] = {}
    for feed in feeds:
        for name, value in zip(values, session.run(values, dict(feed)), strict=True):
            low, high = np.percentile(value, [TAIL, 100 - TAIL])
            if not np.isfinite(low + high):
                raise ConfigError(
                    f"graph {model.graph.name!r} gave NaN or infinity for a calibration picture",
                    fix="check the pictures, and run the float32 graph on them",
                )
            before = found.get(name, (0.0, 0.0))
            found[name] = (min(before[0], float(low)), max(before[1], float(high)))
    if not found:
        raise ConfigError("there is no picture to take ranges from", fix="give some feeds")
    return found
