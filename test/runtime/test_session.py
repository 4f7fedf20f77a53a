from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime.session import Place, Session

HERE = Place("cpu", threads=1)


def graph(path, *, op="Identity", inputs=("x",), outputs=("y",), opset=17, ir=9):
    """Write a graph of one step: the first input to every output; each input is (N, 2) float."""
    nodes = [helper.make_node(op, [inputs[0]], [out]) for out in outputs]
    tables = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in names]
        for names in (inputs, outputs)
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *tables),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir,
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def identity(tmp_path):
    return graph(tmp_path / "identity.onnx")


def session(path, inputs=("x",), outputs=("y",), place=HERE):
    return Session(path, place, inputs=inputs, outputs=outputs)


def test_a_graph_runs(identity):
    x = np.float32([[1, 2], [3, 4]])
    (y,) = session(identity).run({"x": x})
    np.testing.assert_array_equal(y, x)


def test_outputs_come_in_the_order_asked_for(tmp_path):
    path = graph(tmp_path / "two.onnx", inputs=("a", "b"), outputs=("first", "second", "third"))
    s = session(path, inputs=("a", "b"), outputs=("third", "first"))
    assert len(s.run({"a": np.ones((1, 2), np.float32), "b": np.zeros((1, 2), np.float32)})) == 2


def test_a_star_stands_for_all_outputs_of_that_name_in_the_order_of_their_numbers(tmp_path):
    names = [f"levels.{i}" for i in (10, 2, 0, 1)]
    s = session(graph(tmp_path / "g.onnx", outputs=("y", *names)), outputs=("levels.*", "y"))
    assert s.outputs == ("levels.0", "levels.1", "levels.2", "levels.10", "y")
    assert len(s.run({"x": np.ones((1, 2), np.float32)})) == 5
    with pytest.raises(ModelFileError, match="another kind of graph"):
        session(graph(tmp_path / "none.onnx"), outputs=("levels.*", "y"))


def test_an_input_may_be_known_by_a_star_only(tmp_path):
    path = graph(tmp_path / "g.onnx", inputs=("levels.0", "levels.1"))
    assert session(path, inputs=("levels.*",)).inputs == ("levels.0", "levels.1")


def test_a_graph_may_use_some_of_what_is_offered(identity):
    x = np.ones((1, 2), np.float32)
    (y,) = session(identity, inputs=("x", "unused")).run({"x": x, "unused": x})
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(("image",), ("y",)), (("x",), ("map",)), (("x",), ("y", "map"))]
)
def test_a_graph_with_other_bindings_is_refused_and_both_are_named(identity, inputs, outputs):
    with pytest.raises(ModelFileError) as e:
        session(identity, inputs=inputs, outputs=outputs)
    assert "identity.onnx maps x to y" in e.value.what
    assert f"want {', '.join(inputs)} to {', '.join(outputs)}" in e.value.what
    assert e.value.fix


@pytest.mark.parametrize("raw", [b"", b"no model", None])
def test_a_file_that_does_not_load_is_an_error_of_ours(tmp_path, raw):
    path = tmp_path / "bad.onnx"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=r"bad\.onnx does not load") as e:
        session(path)
    assert len(str(e.value).splitlines()) == 2


@pytest.mark.parametrize("age", [{"opset": 99}, {"ir": 99}])
def test_a_file_from_the_future_is_an_error_that_says_so(tmp_path, age):
    path = graph(tmp_path / "new.onnx", **age)
    with pytest.raises(ModelFileError, match=r"new\.onnx is written in a newer ONNX than") as e:
        session(path)
    assert "99" in e.value.what
    assert "update the runtime, or export" in e.value.fix


def test_where_it_runs_is_told(identity):
    where = session(identity).where
    assert where.startswith("onnxruntime ")
    assert where.endswith("(CPU, fp32)")


# failures while running


@pytest.mark.parametrize(("op", "value"), [("Log", -1.0), ("Log", 0.0), ("Reciprocal", 0.0)])
def test_an_output_that_is_not_finite_is_an_error_never_a_result(tmp_path, op, value):
    s = session(graph(tmp_path / "g.onnx", op=op))
    with pytest.raises(InferenceError, match=r"g\.onnx gave NaN or infinity in y") as e:
        s.run({"x": np.full((1, 2), value, np.float32)})
    assert e.value.fix
    (good,) = s.run({"x": np.ones((1, 2), np.float32)})
    assert np.isfinite(good).all(), "the session goes on"


def test_large_values_whose_sum_overflows_are_a_result(identity):
    x = np.full((3, 2), 3e38, np.float32)
    (y,) = session(identity).run({"x": x})
    np.testing.assert_array_equal(y, x)


def test_results_stay_what_they_were_when_the_session_runs_again(tmp_path):
    s = session(graph(tmp_path / "g.onnx", op="Neg"))
    many = [np.full((4, 2), i, np.float32) for i in range(8)]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda x: s.run({"x": x})[0], many))
    for x, y in zip(many, got, strict=True):
        np.testing.assert_array_equal(y, -x)
        assert not np.shares_memory(x, y)


def test_an_input_of_another_shape_is_an_inference_error_that_names_it(identity):
    with pytest.raises(InferenceError, match=r"failed on x \(1, 3\)"):
        session(identity).run({"x": np.ones((1, 3), np.float32)})
