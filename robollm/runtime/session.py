"""One way to run an exported model. Nothing above this file knows ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import InferenceError, ModelFileError

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
_OPENVINO_NAME = "robollm_openvino"


class Session:
    """An ONNX model in ONNX Runtime. `run` may be called from several threads (ORT's promise).

    There is no silent fallback: asking for a provider that is not really active is an error,
    because a slow node that says nothing is worse than one that doesn't start.

    Args:
        path: the .onnx file.
        provider: a key of `PROVIDERS`.
        threads: intra-op threads; 0: one per core.
        inputs: input names that the caller can feed; the graph may use some of them only.
        outputs: output names that the caller reads; the graph must have all of them.

    Raises:
        ModelFileError: if the provider is not active, the file does not load, or its inputs and
            outputs are not those of this kind of graph.
    """

    def __init__(
        self,
        path: Path,
        provider: str,
        *,
        threads: int,
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads of four sessions would take the cores from the ROS executor.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        want = PROVIDERS[provider]
        self._name = path.name
        try:
            self._ort = _create(ort, path, provider, options)
        except ModelFileError:
            raise
        except Exception as e:  # onnxruntime raises its own private types
            raise ModelFileError(
                f"{path.name} does not load: {_first_line(e)}",
                fix="export the bundle again with opset 17 and standard operators",
            ) from e
        active = self._ort.get_providers()
        if not active or active[0] != want:
            raise ModelFileError(
                f"provider {provider!r} is not active for {path.name}: it would run on "
                f"{', '.join(active) or 'nothing'}",
                fix=FIXES[provider],
            )
        self._inputs = tuple(i.name for i in self._ort.get_inputs())
        have = {o.name for o in self._ort.get_outputs()}
        if not self._inputs or not set(self._inputs) <= set(inputs) or not set(outputs) <= have:
            raise ModelFileError(
                f"{path.name} maps {', '.join(self._inputs)} to {', '.join(sorted(have))}; want "
                f"{', '.join(inputs)} to {', '.join(outputs)}: it is another kind of graph",
                fix="point `graphs` in bundle.json at the right files",
            )
        self._outputs = list(outputs)

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once.

        Args:
            tensors: name -> array; entries that the graph does not use are left out.

        Returns:
            The outputs in the order given to the constructor.

        Raises:
            InferenceError: if ONNX Runtime fails or an output is not finite.
        """
        feed = {name: tensors[name] for name in self._inputs}
        try:
            values: list[NDArray[Any]] = self._ort.run(self._outputs, feed)
        except Exception as e:  # onnxruntime raises its own private types
            shapes = ", ".join(f"{k} {v.shape}" for k, v in feed.items())
            raise InferenceError(
                f"{self._name} failed on {shapes}: {_first_line(e)}",
                fix="check the free memory and the bundle's input geometry",
            ) from e
        for name, value in zip(self._outputs, values, strict=True):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise InferenceError(
                    f"{self._name} gave NaN or infinity in {name}",
                    fix="export the bundle again; fp16 overflows are the usual cause",
                )
        return values


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # heavy, so only where it is used
    except ImportError as e:
        raise ModelFileError("onnxruntime is not installed", fix=FIXES["cpu"]) from e
    return onnxruntime


def _create(ort: Any, path: Path, provider: str, options: Any) -> Any:
    want = PROVIDERS[provider]
    if provider == "openvino":
        devices = _openvino_devices(ort)
        hints = {"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}
        options.add_provider_for_devices(devices, {"load_config": json.dumps(hints)})
        return ort.InferenceSession(str(path), options)
    have = ort.get_available_providers()
    if want not in have:
        raise ModelFileError(
            f"provider {provider!r} needs {want}; this onnxruntime has {', '.join(have)}",
            fix=FIXES[provider],
        )
    chain = [want, PROVIDERS["cuda"]] if provider == "tensorrt" else [want]
    return ort.InferenceSession(str(path), options, providers=chain)


def _openvino_devices(ort: Any) -> list[Any]:
    try:
        import onnxruntime_ep_openvino as plugin
    except ImportError as e:
        raise ModelFileError(
            "provider 'openvino' needs the package onnxruntime-ep-openvino",
            fix=FIXES["openvino"],
        ) from e
    want = PROVIDERS["openvino"]
    if not any(d.ep_name == want for d in ort.get_ep_devices()):
        ort.register_execution_provider_library(_OPENVINO_NAME, plugin.get_library_path())
    devices = [
        d
        for d in ort.get_ep_devices()
        if d.ep_name == want and d.device.type == ort.OrtHardwareDeviceType.CPU
    ]
    if not devices:
        raise ModelFileError(
            "OpenVINO offers no device for this processor (its plugin looks for Intel ones)",
            fix="set provider: cpu",
        )
    return devices


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
