"""OpenVINO in two ways: by ONNX Runtime's plugin, and in its own runtime."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from providers_kit import SIDE, needs_bf16, needs_openvino, open_at, plugin

from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime import openvino_engine, providers
from robollm.runtime.providers import PROVIDERS, hints

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


@pytest.fixture
def plugged(monkeypatch):
    """A plugin that takes one processor, as far as session options go: what it was asked for."""
    import onnxruntime

    asked = {}

    class Options(onnxruntime.SessionOptions):
        def add_provider_for_devices(self, devices, options):
            asked.update(devices=devices, **options)

    plugin(monkeypatch, "a processor")
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    return asked


def test_the_plugin_is_taken_where_it_serves_this_processor(product, plugged, pretends):
    pretends("openvino", (PROVIDERS["openvino"], ["MatMul", "Relu", "MatMul"]))
    where = open_at(product, "openvino", "bf16").where
    assert plugged["devices"] == ["a processor"]
    assert '"INFERENCE_PRECISION_HINT": "bf16"' in plugged["load_config"]
    assert where.startswith("openvino plugin in onnxruntime ")
    assert where.endswith("(CPU, bf16 asked for)"), "the plugin doesn't tell more"


def test_arithmetic_that_the_plugin_left_to_onnxruntime_is_refused(product, plugged, pretends):
    pretends("openvino", (PROVIDERS["openvino"], ["MatMul"]), (PROVIDERS["cpu"], ["MatMul"]))
    with pytest.raises(ModelFileError, match=r"1 of its 2 nodes .* 'openvino': 1 MatMul on CPU"):
        open_at(product, "openvino")


@needs_openvino
def test_a_plugin_in_an_onnxruntime_that_can_not_tell_what_it_took_is_left_alone(
    product, monkeypatch
):
    import onnxruntime

    plugin(monkeypatch, "a processor")
    base = onnxruntime.InferenceSession.__mro__[1]
    monkeypatch.delattr(base, "get_provider_graph_assignment_info")
    assert open_at(product, "openvino").where.startswith("openvino 2")


def test_a_plugin_that_is_broken_is_not_passed_over(product, monkeypatch):
    def broken(ort):
        raise RuntimeError("undefined symbol: OrtGetApiBase")

    monkeypatch.setattr(providers, "plugin_devices", broken)
    with pytest.raises(ModelFileError, match=r"does not load in .*: undefined symbol") as e:
        open_at(product, "openvino")
    assert e.value.fix


def test_a_plugin_that_takes_nothing_is_refused(product, plugged):
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
