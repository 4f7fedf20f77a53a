"""Where a graph runs: on ONNX Runtime's provider that was asked for, and never somewhere else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from providers_kit import open_at

from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime import providers
from robollm.runtime.providers import PROVIDERS, strays, tensorrt_options

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
def test_arithmetic_that_would_run_on_the_cpu_next_to_a_gpu_is_refused(product, pretends, provider):
    pretends(provider)
    with pytest.raises(ModelFileError) as e:
        open_at(product, provider)
    assert e.value.what == (
        f"product.onnx would run 2 of its 2 nodes of arithmetic elsewhere than on {provider!r}: "
        "2 MatMul on CPUExecutionProvider"
    )
    assert e.value.fix


def test_a_backbone_that_tensorrt_left_to_cuda_is_refused_and_not_called_tensorrt(
    product, pretends
):
    cuda = PROVIDERS["cuda"]
    pretends("tensorrt", *[(cuda, [op]) for op in ("MatMul", "Relu", "MatMul", "Softmax")])
    with pytest.raises(ModelFileError) as e:
        open_at(product, "tensorrt")
    assert "3 of its 3 nodes of arithmetic elsewhere than on 'tensorrt'" in e.value.what
    assert "2 MatMul, 1 Softmax on CUDAExecutionProvider" in e.value.what


@pytest.mark.parametrize(
    "parts",
    [
        [("tensorrt", ["Conv", "MatMul", "Relu", "MatMul"]), ("cpu", ["Shape"])],
        [("tensorrt", ["TRTKernel_graph_g_123_0"]), ("cuda", ["Gather"])],
    ],
    ids=["told by its nodes", "told as one fused node"],
)
def test_a_subgraph_that_tensorrt_took_whole_is_fine(product, pretends, parts):
    pretends("tensorrt", *[(PROVIDERS[p], ops) for p, ops in parts])
    assert open_at(product, "tensorrt").where.startswith("tensorrt in onnxruntime")


def test_a_graph_of_which_nothing_is_on_the_wanted_provider_is_refused(product, pretends):
    pretends("tensorrt", (PROVIDERS["cuda"], ["Relu"]))
    with pytest.raises(ModelFileError, match=r"provider 'tensorrt' took no node of product\.onnx"):
        open_at(product, "tensorrt")


def test_sizes_and_the_suppression_of_boxes_may_run_elsewhere():
    cpu, gpu, trt = PROVIDERS["cpu"], PROVIDERS["cuda"], PROVIDERS["tensorrt"]
    fine = [(gpu, "MatMul"), (cpu, "Shape"), (cpu, "NonMaxSuppression"), (cpu, "Gather")]
    assert strays(fine, gpu) == {}
    found = [*fine, (cpu, "RoiAlign"), (cpu, "Conv"), (cpu, "Conv")]
    assert strays(found, gpu) == {cpu: {"RoiAlign": 1, "Conv": 2}}
    assert strays([(trt, "Conv"), *found], trt) == {
        gpu: {"MatMul": 1},
        cpu: {"RoiAlign": 1, "Conv": 2},
    }


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
