"""The runtimes behind a session: ONNX Runtime with its providers, and the choice of OpenVINO's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from robollm.core.errors import ModelFileError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
FIXES = {
    "cpu": 'pip install "robollm[cpu]"',
    "openvino": 'pip install "robollm[openvino]", or set provider: cpu',
    "cuda": 'pip install "robollm[gpu]" on a machine with CUDA, or set provider: cpu',
    "tensorrt": 'pip install "robollm[gpu]" on a machine with TensorRT, or set provider: cpu',
}
ARITHMETIC = (
    "Conv", "ConvTranspose", "Gemm", "LayerNormalization", "MatMul", "RoiAlign", "Softmax",
)  # fmt: skip
"""Operators that must run on the provider that was asked for, and on no other one. Others may run
elsewhere: sizes, and the suppression of boxes, whose number depends on the data."""
_OPENVINO_PLUGIN = "robollm_openvino"
_SHIFTED = ("opset", "ir version")  # words of ONNX Runtime's error about a file from the future

Profile = Mapping[str, Sequence[tuple[int, ...]]]
"""Input -> smallest, usual, largest shape."""


class Engine(Protocol):
    """A loaded graph in some runtime; `run` is safe to call from several threads."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    where: str

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Run once. The arrays given back are nobody else's."""


class OrtEngine:
    """A graph in ONNX Runtime.

    Args:
        path: the .onnx file.
        provider: a key of `PROVIDERS`.
        precision: of the file, or of the arithmetic.
        threads: of one run; 0: one per core.
        cache: folder for TensorRT's engines; empty: none. OpenVINO's plugin doesn't use it.
        profile: shapes that TensorRT's engine is built for.

    Raises:
        ModelFileError: if the file does not load, or not on this provider alone.
    """

    def __init__(
        self,
        path: Path,
        provider: str,
        precision: str,
        threads: int,
        cache: str,
        profile: Profile,
    ) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads of four sessions would take the cores from the ROS executor.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        shares = provider != "cpu"  # other providers leave what they can't do to the next one
        if shares:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            if provider == "openvino":
                wishes = json.dumps({"CPU": hints(precision, threads)})
                options.add_provider_for_devices(plugin_devices(ort), {"load_config": wishes})
                self._ort = ort.InferenceSession(str(path), options)
            else:
                chain = _chain(ort, provider, precision, cache, profile)
                self._ort = ort.InferenceSession(str(path), options, providers=chain)
        except ModelFileError:
            raise
        except Exception as e:  # onnxruntime raises its own private types
            raise does_not_load(path, e, f"onnxruntime {ort.__version__}") from e
        self._ort.disable_fallback()  # else a failing run would go on, slowly, on the CPU
        active = self._ort.get_providers()
        if not active or active[0] != PROVIDERS[provider]:
            raise ModelFileError(
                f"provider {provider!r} is not active for {path.name}: it would run on "
                f"{', '.join(active) or 'nothing'}",
                fix=FIXES[provider],
            )
        if shares:
            _refuse_strays(path, provider, self._ort)
        self.inputs = tuple(i.name for i in self._ort.get_inputs())
        self.outputs = tuple(o.name for o in self._ort.get_outputs())
        # The plugin doesn't tell what it did: what was asked for is all that is known.
        what = f"{precision} asked for" if provider == "openvino" else precision
        device = "CPU" if provider in ("cpu", "openvino") else "GPU"
        through = {"cpu": "", "openvino": "openvino plugin in ", "cuda": "cuda in "}
        self.where = (
            f"{through.get(provider, provider + ' in ')}onnxruntime {ort.__version__} "
            f"({device}, {what})"
        )

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Engine`."""
        values: list[NDArray[Any]] = self._ort.run(list(outputs), dict(feed))
        return values


def open_engine(
    path: Path, provider: str, precision: str, threads: int, cache: str, profile: Profile
) -> Engine:
    """Load a graph where it was asked for.

    OpenVINO is reached through ONNX Runtime's plugin where that offers this processor, else
    through its own runtime: the same engine, and `where` tells which way.

    Raises:
        ModelFileError: if the provider or the precision is not active, or the file does not load.
    """
    if provider == "openvino" and not openvino_by_plugin():
        from robollm.runtime.openvino_engine import OpenVinoEngine  # heavy, so only where used

        return OpenVinoEngine(path, precision, threads, cache)
    return OrtEngine(path, provider, precision, threads, cache, profile)


def hints(precision: str, threads: int) -> dict[str, Any]:
    """OpenVINO's options: one run at a time, as fast as it can be, in this arithmetic.

    Only "bf16" changes the arithmetic; an int8 file says itself where it is 8 bits, and what is
    left is computed in fp32, as when the variant was measured.
    """
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        # A pinned thread waits for its core even when others are free: all models start at core 0.
        "ENABLE_CPU_PINNING": "NO",
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return options


def tensorrt_options(precision: str, cache: str, profile: Profile) -> dict[str, str]:
    """Options of ONNX Runtime's TensorRT provider, spelt as its documentation does.

    Without a profile every new shape would build a new engine, which takes minutes.
    """
    options = {"trt_fp16_enable": "True" if precision == "fp16" else "False"}
    if cache:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": cache,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": cache,
        }
    for i, which in enumerate(("min", "opt", "max") if profile else ()):
        shapes = (f"{name}:{'x'.join(map(str, s[i]))}" for name, s in profile.items())
        options[f"trt_profile_{which}_shapes"] = ",".join(shapes)
    return options


def strays(placed: Iterable[tuple[str, str]], wanted: str) -> dict[str, Counter[str]]:
    """Which arithmetic runs elsewhere than on the provider that was asked for.

    ONNX Runtime takes the record after its basic optimisations and before a provider compiles
    anything: of a subgraph that TensorRT or OpenVINO fuses it tells the nodes of the file, under
    their own names. Should it tell the fused node instead, that one is no arithmetic by name, and
    stands with the provider that made it: neither way is a stray.

    Args:
        placed: (provider, operator) of every node, by ONNX Runtime's names.
        wanted: the provider that was asked for.

    Returns:
        Other provider -> operator -> number of nodes; empty if all is well.
    """
    found: dict[str, Counter[str]] = {}
    for ep, op in placed:
        if ep != wanted and op in ARITHMETIC:
            found.setdefault(ep, Counter())[op] += 1
    return found


def does_not_load(path: Path, error: Exception, runtime: str) -> ModelFileError:
    """Our error for a file that a runtime refuses."""
    text = first_line(error)
    if any(word in text.lower() for word in _SHIFTED):
        return ModelFileError(
            f"{path.name} is written in a newer ONNX than {runtime} reads: {text}",
            fix="update the runtime, or export the bundle again with opset 17",
        )
    return ModelFileError(
        f"{path.name} does not load in {runtime}: {text}",
        fix="export the bundle again with opset 17 and standard operators",
    )


def first_line(error: Exception) -> str:
    """The line of an error's text that says what is wrong, no longer than a person reads."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # OpenVINO starts with where in its sources it happened, ONNX Runtime within the first line.
    line = lines[-1] if lines[0].startswith("Exception from") else lines[0]
    return line.strip()[-300:]


def plugin_devices(ort: Any) -> list[Any]:
    """The processors that OpenVINO's plugin for ONNX Runtime offers; it takes Intel's only.

    Raises:
        ImportError: if the plugin is not installed.
    """
    import onnxruntime_ep_openvino as plugin

    want = PROVIDERS["openvino"]
    _register(ort, str(plugin.get_library_path()))
    return [
        d
        for d in ort.get_ep_devices()
        if d.ep_name == want and d.device.type == ort.OrtHardwareDeviceType.CPU
    ]


@lru_cache(maxsize=1)
def _register(ort: Any, library: str) -> None:
    ort.register_execution_provider_library(_OPENVINO_PLUGIN, library)  # a second time is an error


def openvino_by_plugin() -> bool:
    """Whether OpenVINO is reached through ONNX Runtime's plugin here, not its own runtime.

    Raises:
        ModelFileError: if the plugin is installed and doesn't load.
    """
    ort = _onnxruntime()
    try:
        _ = ort.InferenceSession.get_provider_graph_assignment_info  # what the plugin took
        return bool(plugin_devices(ort))
    except (ImportError, AttributeError):  # not installed; an ONNX Runtime older than 1.24
        return False
    except Exception as e:  # onnxruntime raises its own private types
        raise ModelFileError(
            "OpenVINO's plugin for ONNX Runtime (onnxruntime-ep-openvino) is installed and does "
            f"not load in onnxruntime {ort.__version__}: {first_line(e)}",
            fix="install versions that fit each other, or remove the plugin: `pip install openvino`"
            " is enough",
        ) from e


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # heavy, so only where it is used
    except ImportError as e:
        raise ModelFileError("onnxruntime is not installed", fix=FIXES["cpu"]) from e
    return onnxruntime


def _chain(ort: Any, provider: str, precision: str, cache: str, profile: Profile) -> list[Any]:
    want, have = PROVIDERS[provider], ort.get_available_providers()
    if want not in have:
        raise ModelFileError(
            f"provider {provider!r} needs {want}; this onnxruntime has {', '.join(have)}",
            fix=FIXES[provider],
        )
    if provider == "tensorrt":
        if cache:
            try:
                Path(cache).mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise ModelFileError(
                    f"engine_cache: {cache} can't be made: {e.strerror}",
                    fix="give a folder that this user may write to, or none",
                ) from e
        return [(want, tensorrt_options(precision, cache, profile)), PROVIDERS["cuda"]]
    return [want]


def _refuse_strays(path: Path, provider: str, session: Any) -> None:
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except AttributeError as e:
        raise ModelFileError(
            f"provider {provider!r}: this onnxruntime can't tell which nodes run where",
            fix="install onnxruntime-gpu 1.24 or newer",
        ) from e
    wanted = PROVIDERS[provider]
    placed = [(s.ep_name, node.op_type) for s in subgraphs for node in s.get_nodes()]
    fix = "export the bundle again with opset 17 and standard operators, or set provider: cpu"
    if found := strays(placed, wanted):
        lost = sum(sum(n.values()) for n in found.values())
        of = sum(op in ARITHMETIC for _, op in placed)
        where = "; ".join(
            f"{', '.join(f'{n} {op}' for op, n in sorted(ops.items()))} on {ep}"
            for ep, ops in sorted(found.items())
        )
        raise ModelFileError(
            f"{path.name} would run {lost} of its {of} nodes of arithmetic elsewhere than on "
            f"{provider!r}: {where}",
            fix=fix,
        )
    if all(ep != wanted for ep, _ in placed):
        others = ", ".join(sorted({ep for ep, _ in placed})) or "nothing"
        raise ModelFileError(
            f"provider {provider!r} took no node of {path.name}: it would run on {others}", fix=fix
        )
