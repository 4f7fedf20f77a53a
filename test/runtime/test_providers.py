"""Where a graph runs: ONNX Runtime's providers, OpenVINO in two ways, and never somewhere else."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime import openvino_engine, providers
from robollm.runtime.precision import cpu_flags
from robollm.runtime.providers import PROVIDERS, hints, strays, tensorrt_options
from robollm.runtime.session import Place, Session

SIDE = 64


def has_openvino():
    try:
        import openvino
    except ImportError:
        return False
    return bool(openvino.__version__)


needs_openvino = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
needs_bf16 = pytest.mark.skipif(
    cpu_flags().isdisjoint({"amx_bf16", "avx512_bf16"}), reason="this processor has no bf16"
)


@pytest.fixture
def product(tmp_path):
    """(N, 64) float32 -> two products with one matrix `y`, and what lies between them `z`."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
        helper.make_node("Identity", ["r"], ["z"]),
    ]
    tables = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", SIDE]) for n in names]
        for names in (["x"], ["y", "z"])
    ]
    g = helper.make_graph(nodes, "g", *tables, [numpy_helper.from_array(matrix, "w")])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def open_at(path, provider, precision="fp32"):
    return Session(path, Place(provider, precision, 1), inputs=("x",), outputs=("z", "y"))


# absent, or quietly replaced


def available():
    import onnxruntime

    return onnxruntime.get_available_providers()


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_absent_is_an_error_that_names_what_is_there(product, provider):
    if PROVIDERS[provider] in available():
        pytest.skip("this onnxruntime has it")
    with pytest.raises(ModelFileError) as e:
        open_at(product, provider)
    assert PROVIDERS[provider] in e.value.what
    assert ", ".join(available()) in e.value.what
    assert "or set provider: cpu" in e.value.fix


def test_a_missing_onnxruntime_is_an_error_that_says_what_to_install(product, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelFileError, match="onnxruntime is not installed") as e:
        open_at(product, "cpu")
    assert "robollm[cpu]" in e.value.fix


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_onnxruntime_quietly_replaced_is_refused(product, monkeypatch, provider):
    monkeypatch.setattr(providers, "_chain", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(ModelFileError) as e:
        open_at(product, provider)
    assert f"provider {provider!r} is not active" in e.value.what
    assert "it would run on CPUExecutionProvider" in e.value.what
    assert e.value.fix


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_arithmetic_that_would_run_on_the_cpu_next_to_a_gpu_is_refused(
    product, monkeypatch, provider
):
    import onnxruntime

    class Pretends(onnxruntime.InferenceSession):
        """Says that the GPU is active, as a session with one node on it would."""

        def get_providers(self):
            return [PROVIDERS[provider], "CPUExecutionProvider"]

    monkeypatch.setattr(providers, "_chain", lambda *_: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretends)
    with pytest.raises(ModelFileError, match=r"product\.onnx would run MatMul on the CPU"):
        open_at(product, provider)


def test_sizes_and_the_suppression_of_boxes_may_run_on_the_cpu():
    cpu, gpu = PROVIDERS["cpu"], PROVIDERS["cuda"]
    fine = [(gpu, "MatMul"), (cpu, "Shape"), (cpu, "NonMaxSuppression"), (cpu, "Gather")]
    assert strays(fine) == []
    assert strays([*fine, (cpu, "RoiAlign"), (cpu, "Conv"), (cpu, "Conv")]) == ["Conv", "RoiAlign"]


def test_a_failing_run_is_an_error_and_not_repeated_on_another_provider(product):
    s = open_at(product, "cpu")
    assert s._engine._ort._enable_fallback is False
    with pytest.raises(InferenceError, match=r"failed on x \(1, 3\)"):
        s.run({"x": np.ones((1, 3), np.float32)})


def test_tensorrts_options_are_spelt_as_documented():
    profile = {
        "image": ((1, 3, 96, 96), (1, 3, 640, 640), (16, 3, 640, 640)),
        "task": ((1,), (1,), (16,)),
    }
    assert tensorrt_options("fp16", "cache", profile) == {
        "trt_fp16_enable": "True",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "cache",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "cache",
        "trt_profile_min_shapes": "image:1x3x96x96,task:1",
        "trt_profile_opt_shapes": "image:1x3x640x640,task:1",
        "trt_profile_max_shapes": "image:16x3x640x640,task:16",
    }
    assert tensorrt_options("fp32", "", {}) == {"trt_fp16_enable": "False"}


def test_the_folder_for_engines_is_made_or_the_error_names_it(tmp_path):
    ort = SimpleNamespace(get_available_providers=lambda: list(PROVIDERS.values()))
    chain = providers._chain(ort, "tensorrt", "fp32", str(tmp_path / "a" / "b"), {})
    assert (tmp_path / "a" / "b").is_dir()
    assert [chain[0][0], *chain[1:]] == [PROVIDERS["tensorrt"], PROVIDERS["cuda"]]
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelFileError, match=r"engine_cache: .*file/c can't be made"):
        providers._chain(ort, "tensorrt", "fp32", str(tmp_path / "file" / "c"), {})


# openvino


LET_GO = """
import signal, subprocess, sys, threading
from pathlib import Path
from robollm.runtime.openvino_engine import OpenVinoEngine
held = [OpenVinoEngine(Path(sys.argv[1]), "fp32", 1)]
other = threading.Thread(target=held.clear)
other.start()
other.join()
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run([sys.executable, "-c", ""])
print("alive")
"""


@needs_openvino
def test_a_model_that_another_thread_lets_go_of_leaves_signals_working(product):
    """OpenVINO 2026.4 frees the signal stack that it gave to the thread that loaded it."""
    done = subprocess.run(
        [sys.executable, "-c", LET_GO, str(product)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_openvinos_options_say_one_run_at_a_time_in_this_arithmetic():
    assert hints("bf16", 2) == {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16",
        "ENABLE_CPU_PINNING": "NO",
        "INFERENCE_NUM_THREADS": 2,
    }
    for precision in ("fp32", "int8-static"):
        assert hints(precision, 0) == {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": "NO",
        }


def plugin(monkeypatch, *devices):
    monkeypatch.setattr(providers, "plugin_devices", lambda ort: list(devices))


def test_the_plugin_is_taken_where_it_serves_this_processor(product, monkeypatch):
    import onnxruntime

    asked = {}

    class Options(onnxruntime.SessionOptions):
        def add_provider_for_devices(self, devices, options):
            asked.update(devices=devices, **options)

    class Pretends(onnxruntime.InferenceSession):
        def get_providers(self):
            return [PROVIDERS["openvino"], "CPUExecutionProvider"]

    plugin(monkeypatch, "a processor")
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretends)
    where = open_at(product, "openvino", "bf16").where
    assert asked["devices"] == ["a processor"]
    assert '"INFERENCE_PRECISION_HINT": "bf16"' in asked["load_config"]
    assert where.startswith("openvino plugin in onnxruntime ")
    assert where.endswith("(CPU, bf16 asked for)"), "the plugin doesn't tell more"


def test_a_plugin_that_is_broken_is_not_passed_over(product, monkeypatch):
    def broken(ort):
        raise RuntimeError("undefined symbol: OrtGetApiBase")

    monkeypatch.setattr(providers, "plugin_devices", broken)
    with pytest.raises(ModelFileError, match=r"does not load in .*: undefined symbol") as e:
        open_at(product, "openvino")
    assert e.value.fix


def test_a_plugin_that_takes_nothing_is_refused(product, monkeypatch):
    import onnxruntime

    class Options(onnxruntime.SessionOptions):
        def add_provider_for_devices(self, devices, options):
            pass

    plugin(monkeypatch, "a processor")
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    with pytest.raises(ModelFileError, match="provider 'openvino' is not active"):
        open_at(product, "openvino")


@pytest.mark.parametrize("why", ["not installed", "no device", "an old onnxruntime"])
def test_without_plugin_and_openvino_the_error_names_both_packages(product, monkeypatch, why):
    if why == "not installed":
        monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    elif why == "no device":
        plugin(monkeypatch)
    else:
        fake = SimpleNamespace(get_library_path=lambda: "library")
        monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", fake)
        monkeypatch.delattr("onnxruntime.register_execution_provider_library", raising=False)
        monkeypatch.delattr("onnxruntime.get_ep_devices", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelFileError, match=r"onnxruntime-ep-openvino.*\(openvino\)") as e:
        open_at(product, "openvino")
    assert "robollm[openvino]" in e.value.fix


@needs_openvino
def test_openvinos_own_runtime_says_what_onnxruntime_says(product, monkeypatch):
    plugin(monkeypatch)
    ours, theirs = open_at(product, "openvino"), open_at(product, "cpu")
    assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
    assert ours.where.startswith("openvino 2")
    compiled = ours._engine._compiled
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("NUM_STREAMS") == 1, "one run at a time"
    assert ours.where.endswith("(CPU, fp32)")
    rng = np.random.default_rng(1)
    for n in (1, 5, 2):
        x = rng.standard_normal((n, SIDE)).astype(np.float32)
        for a, b in zip(ours.run({"x": x}), theirs.run({"x": x}), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@needs_openvino
def test_openvinos_results_stay_what_they_were(product, monkeypatch):
    plugin(monkeypatch)
    s = open_at(product, "openvino")
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, SIDE)).astype(np.float32)
    first = s.run({"x": x})
    kept = [v.copy() for v in first]
    s.run({"x": -x})
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_openvino
@needs_bf16
def test_bf16_is_really_computed_in_bf16(product, monkeypatch):
    plugin(monkeypatch)
    rough, exact = open_at(product, "openvino", "bf16"), open_at(product, "openvino")
    assert rough.where.endswith("(CPU, bf16)")
    assert openvino_engine.layer_precisions(rough._engine._compiled) == {"BF16"}
    x = np.random.default_rng(3).standard_normal((4, SIDE)).astype(np.float32)
    error = np.abs(rough.run({"x": x})[1] - exact.run({"x": x})[1]).max()
    size = np.abs(exact.run({"x": x})[1]).max()
    assert 1e-4 < error / size < 2e-2


@needs_openvino
@pytest.mark.parametrize(
    ("asked", "computed"),
    [("bf16", {"F32"}), ("bf16", {"F16"}), ("int8-static", {"F32"}), ("fp32", {"BF16", "F32"})],
)
def test_another_precision_than_asked_for_is_refused(product, monkeypatch, asked, computed):
    plugin(monkeypatch)
    monkeypatch.setattr(openvino_engine, "layer_precisions", lambda compiled: computed)
    with pytest.raises(ModelFileError, match=f"was to run in {asked}, OpenVINO computes it in"):
        open_at(product, "openvino", asked)


@needs_openvino
def test_a_file_that_openvino_can_not_read_is_an_error_of_ours(tmp_path, monkeypatch):
    plugin(monkeypatch)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"bad\.onnx does not load in openvino") as e:
        open_at(tmp_path / "bad.onnx", "openvino")
    assert len(str(e.value).splitlines()) == 2


@needs_openvino
def test_openvinos_error_while_running_says_what_is_wrong(product, monkeypatch):
    plugin(monkeypatch)
    with pytest.raises(InferenceError, match=r"failed on x \(1, 3\): .*shape"):
        open_at(product, "openvino").run({"x": np.ones((1, 3), np.float32)})
