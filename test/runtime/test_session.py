from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime import session as module
from robollm.runtime.session import PROVIDERS, Session

ROOM = {"provider": "cpu", "threads": 1}


def graph(path, *, op="Identity", inputs=("x",), outputs=("y",)):
    """Write a graph of one step: the first input to every output; each input is (N, 2) float."""
    nodes = [helper.make_node(op, [inputs[0]], [out]) for out in outputs]
    tables = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in names]
        for names in (inputs, outputs)
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *tables),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def identity(tmp_path):
    return graph(tmp_path / "identity.onnx")


def session(path, inputs=("x",), outputs=("y",), **options):
    return Session(path, **(ROOM | options), inputs=inputs, outputs=outputs)


def test_a_graph_runs(identity):
    x = np.float32([[1, 2], [3, 4]])
    (y,) = session(identity).run({"x": x})
    np.testing.assert_array_equal(y, x)


def test_outputs_come_in_the_order_asked_for(tmp_path):
    path = graph(tmp_path / "two.onnx", inputs=("a", "b"), outputs=("first", "second", "third"))
    s = session(path, inputs=("a", "b"), outputs=("third", "first"))
    assert len(s.run({"a": np.ones((1, 2), np.float32), "b": np.zeros((1, 2), np.float32)})) == 2


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


# failures while running


@pytest.mark.parametrize(("op", "value"), [("Log", -1.0), ("Log", 0.0), ("Reciprocal", 0.0)])
def test_an_output_that_is_not_finite_is_an_error_never_a_result(tmp_path, op, value):
    s = session(graph(tmp_path / "g.onnx", op=op))
    with pytest.raises(InferenceError, match=r"g\.onnx gave NaN or infinity in y") as e:
        s.run({"x": np.full((1, 2), value, np.float32)})
    assert e.value.fix
    (good,) = s.run({"x": np.ones((1, 2), np.float32)})
    assert np.isfinite(good).all(), "the session goes on"


def test_an_input_of_another_shape_is_an_inference_error_that_names_it(identity):
    with pytest.raises(InferenceError, match=r"failed on x \(1, 3\)"):
        session(identity).run({"x": np.ones((1, 3), np.float32)})


# providers


def available():
    import onnxruntime

    return onnxruntime.get_available_providers()


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_absent_is_an_error_that_names_what_is_there(identity, provider):
    if PROVIDERS[provider] in available():
        pytest.skip("this onnxruntime has it")
    with pytest.raises(ModelFileError) as e:
        session(identity, provider=provider)
    assert PROVIDERS[provider] in e.value.what
    assert ", ".join(available()) in e.value.what
    assert "or set provider: cpu" in e.value.fix


def test_openvino_without_its_package_is_an_error_that_names_the_package(identity, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    with pytest.raises(ModelFileError, match="onnxruntime-ep-openvino") as e:
        session(identity, provider="openvino")
    assert "robollm[openvino]" in e.value.fix


def test_a_missing_onnxruntime_is_an_error_that_says_what_to_install(identity, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelFileError, match="onnxruntime is not installed") as e:
        session(identity)
    assert "robollm[cpu]" in e.value.fix


@pytest.mark.parametrize("provider", ["openvino", "cuda", "tensorrt"])
def test_a_provider_that_onnxruntime_quietly_replaced_is_refused(identity, monkeypatch, provider):
    def quiet(ort, path, _, options):
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(module, "_create", quiet)
    with pytest.raises(ModelFileError) as e:
        session(identity, provider=provider)
    assert f"provider {provider!r} is not active" in e.value.what
    assert "it would run on CPUExecutionProvider" in e.value.what
    assert e.value.fix
