import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tensorrt_kit import BACKBONES, backbone

from robollm.export.graphs import Graph
from robollm.export.tensorrt.coverage import check
from robollm.export.tensorrt.operators import OPERATORS, TOPK_MAX
from robollm.export.variants import to_fp16, to_int8_dynamic

# --- the list ---------------------------------------------------------------------------------


def test_the_list_says_what_the_published_matrix_says():
    # a few rows of docs/operators.md, read by eye
    assert OPERATORS["LayerNormalization"].types == {"fp32", "fp16", "bf16"}
    assert OPERATORS["Where"].types == {"fp32", "fp16", "bf16", "int32", "int64", "bool"}
    assert OPERATORS["RoiAlign"].types == OPERATORS["NonZero"].types == {"fp32", "fp16"}
    assert OPERATORS["DequantizeLinear"].types == {"int8", "fp8", "fp4", "int4"}
    assert not OPERATORS.keys() & {"DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul"}
    assert TOPK_MAX == 3839
    assert len(OPERATORS) == 159


def test_every_listed_operator_is_one_of_onnx_or_a_known_relic():
    relics = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    known = {s.name for s in onnx.defs.get_all_schemas() if not s.domain}
    assert OPERATORS.keys() - known == relics


# --- findings ---------------------------------------------------------------------------------


def one(op, *inputs, dtype=TensorProto.FLOAT, outputs=1, domain="", opset=17, last=8, **attributes):
    """A graph of one node on x (2, 8, 8, last); other inputs are arrays."""
    names = ["x", *(f"c{i}" if c is not None else "" for i, c in enumerate(inputs))]
    outs = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, outs, name="n", domain=domain, **attributes)
    constants = [
        onnx.numpy_helper.from_array(np.asarray(c), f"c{i}")
        for i, c in enumerate(inputs)
        if c is not None
    ]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", dtype, [2, 8, 8, last])],
        [onnx.ValueInfoProto(name=o) for o in outs],
        initializer=constants,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


FLOAT1 = np.float32(1)


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        (one("Det"), "operator", "hasn't got it"),
        (one("FusedMatMul", FLOAT1, domain="com.microsoft"), "operator", "plugin"),
        (one("Relu", opset=8), "operator", "opset 8"),
        (one("Exp", dtype=TensorProto.DOUBLE), "type", "double"),
        (one("Cast", to=TensorProto.INT16), "type", "int16"),
        (one("MatMul", np.ones((8, 8), np.int32), dtype=TensorProto.INT32), "type", "int32"),
        (one("NonZero", dtype=TensorProto.BOOL), "type", "bool"),
        (one("NonZero"), "shape", "depends on values"),
        (one("Resize", None, np.ones(4, np.float32), mode="cubic"), "restriction", "cubic"),
        (
            one(
                "Resize",
                np.ones(8, np.float32),
                np.ones(4, np.float32),
                coordinate_transformation_mode="tf_crop_and_resize",
            ),
            "restriction",
            "tf_crop_and_resize",
        ),
        (one("TopK", np.array([3840]), outputs=2, last=4000), "restriction", "K is 3840"),
        (one("TopK", np.array([4]), outputs=2, sorted=0), "restriction", "sorted"),
        (
            one("MaxPool", outputs=2, kernel_shape=[2, 2]),
            "restriction",
            "second output",
        ),
        (
            one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
            "restriction",
            "dilations",
        ),
        (
            one("LayerNormalization", np.ones(8, np.float32), outputs=2),
            "restriction",
            "second output",
        ),
        (one("QuantizeLinear", FLOAT1, np.int8(3)), "restriction", "isn't 0"),
        (one("Dropout"), "restriction", "look yourself"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_tensorrt_would_refuse_is_told(model, kind, words):
    found = check(model)
    assert any(f.kind == kind and words in f.text for f in found), [str(f) for f in found]


def test_what_tensorrt_takes_gives_no_finding():
    fine = [
        one("Resize", None, np.ones(4, np.float32), mode="linear"),
        one("TopK", np.array([3839]), outputs=2, last=4000),
        one("MaxPool", kernel_shape=[2, 2]),
        one("LayerNormalization", np.ones(8, np.float32)),
        one("ReduceMin", axes=[1]),
        one("Unsqueeze", np.array([0]), dtype=TensorProto.INT64),
        one("Gather", np.int64(0), dtype=TensorProto.BOOL),
    ]
    assert [f for model in fine for f in check(model)] == []


def test_computed_axes_are_told_only_where_the_list_wants_them_stored():
    g = Graph("axes")
    x = g.input("x", ["N", 4, 4])
    axes = g.op("Sub", g.op("Shape", g.const(np.ones((2, 2), np.float32))), g.ints(1, 0))
    g.op("Squeeze", g.op("Unsqueeze", x, axes), axes, out="y")
    g.output("y", ["N", 4, 4])
    assert check(g.model()) == []  # they come down to constants
    g.op("ReduceSum", x, axes, out="z")
    (found,) = check(g.model())
    assert (found.operator, found.kind) == ("ReduceSum", "restriction")


def test_uint8_is_for_the_ends_of_a_network_only():
    inside = one("QuantizeLinear", FLOAT1, np.uint8(0))
    again = helper.make_node("DequantizeLinear", ["y0", "c0", "c1"], ["z"])
    assert check(inside) == []
    inside.graph.node.append(again)
    inside.graph.output[0].name = "z"
    assert {f.kind for f in check(inside)} == {"type"}


def test_an_operator_inside_a_branch_is_found():
    branch = helper.make_graph(
        [helper.make_node("Det", ["x"], ["d"])], "b", [], [onnx.ValueInfoProto(name="d")]
    )
    g = Graph("if")
    g.input("x", [2, 2])
    g.op("If", g.const(np.array(True)), then_branch=branch, else_branch=branch, out="y")
    g.output("y", [])
    found = [f for f in check(g.model()) if f.operator == "Det"]
    assert len(found) == 2


# --- the graphs that are exported --------------------------------------------------------------


@pytest.mark.parametrize("options", BACKBONES.values(), ids=BACKBONES)
def test_tensorrt_takes_the_backbone_and_every_shape_in_it_is_static(options):
    model = backbone(**options)
    task = {"task": [1]} if "adapters" in options else {}
    assert check(model, {"image": [1, 3, 160, 352], **task}) == []
    assert check(to_fp16(model), {"image": [1, 3, 96, 96], **task}) == []


def test_shapes_that_depend_on_values_are_told_where_they_begin():
    g = Graph("late")
    x = g.input("x", ["N"])
    g.op("Relu", g.op("Gather", x, g.op("Reshape", g.op("NonZero", x), g.ints(-1))), out="y")
    g.output("y", ["n"])
    found = check(g.model(), {"x": [8]})
    assert {f.operator for f in found} == {"NonZero"}


def test_int8_that_quantises_while_it_runs_is_nothing_for_tensorrt():
    found = check(to_int8_dynamic(backbone()))
    assert {f.operator for f in found} >= {"DynamicQuantizeLinear", "MatMulInteger"}
