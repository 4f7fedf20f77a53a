"""A graph in OpenVINO's own runtime, which serves every x86 processor."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ModelFileError
from robollm.runtime.memory import give_back_free_memory
from robollm.runtime.openvino_files import read_mapped
from robollm.runtime.providers import FIXES, does_not_load, hints

ARITHMETIC = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""OpenVINO's names of the layers that take the time, hence the precision."""
_EXPECTED = {"bf16": {"BF16"}, "int8-static": {"I8", "U8"}}


@functools.cache
def _core() -> Any:
    """OpenVINO itself, once for the process and for as long as it lives.

    Its CPU plugin moves the signal stack of the thread that loads it into memory of its own, and
    frees that when the last model goes, in whichever thread: the next signal then ends the process.
    """
    import openvino

    return openvino.Core()


class OpenVinoEngine:
    """A graph compiled by OpenVINO for this processor.

    Args:
        path: the .onnx file.
        precision: "bf16" asks for that arithmetic; with others the file decides.
        threads: of one run; 0: one per core.
        cache: folder for a copy that OpenVINO maps; empty: none, and the weights take twice their
            size in memory (`openvino_files`).

    Raises:
        ModelFileError: if OpenVINO is not installed, refuses the file, or computes in another
            precision than was asked for; or the copy can't be written.
    """

    def __init__(self, path: Path, precision: str, threads: int, cache: str = "") -> None:
        try:
            import openvino  # heavy, so only where it is used
        except ImportError as e:
            raise ModelFileError(
                "provider 'openvino': the plugin of ONNX Runtime (onnxruntime-ep-openvino) offers "
                "no device for this processor or is not installed, and neither is OpenVINO's own "
                "runtime (openvino)",
                fix=FIXES["openvino"],
            ) from e
        version = openvino.__version__.split("-")[0]
        core = _core()
        try:
            if cache:
                model = read_mapped(core, path, Path(cache), version)
            else:
                model = core.read_model(path)
            # The file's names: compiling may merge an output with what it is made from.
            self.inputs = tuple(_name(i) for i in model.inputs)
            self.outputs = tuple(_name(o) for o in model.outputs)
            _fit_roi_align(model)
            self._compiled = core.compile_model(model, "CPU", hints(precision, threads))
        except ModelFileError:
            raise
        except Exception as e:  # openvino raises RuntimeError with its own text
            raise does_not_load(path, e, f"openvino {version}") from e
        _refuse_other_precision(path, precision, layer_precisions(self._compiled))
        del model
        give_back_free_memory()  # what reading took; ours keeps large buffers
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()  # a request is not safe to share; a second one costs memory
        self.where = f"openvino {version} (CPU, {precision})"

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Engine`."""
        with self._lock:
            # share_outputs is False: the runtime's buffers are used again by the next run.
            found = self._request.infer(
                [feed[name] for name in self.inputs], share_inputs=True, share_outputs=False
            )
            return [found[self.outputs.index(name)] for name in outputs]


def _fit_roi_align(model: Any) -> None:
    """Change how OpenVINO pools regions of a map, not what it gives.

    It pools many times faster from a map whose channels lie side by side (2026.4), and takes the
    layout that the layer before gives: of layers, only convolutions give this one. So each map
    goes through one that multiplies by 1, which costs next to nothing.

    In bf16 it would round the boxes, too, to whole pixels from 128 px on. What leads to an output
    without passing a layer stays float32, so each pooling's boxes become an output, after those
    that there are.
    """
    from openvino import opset13

    turned: dict[Any, Any] = {}
    for node in model.get_ops():
        if node.get_type_name() != "ROIAlign":
            continue
        features, boxes = node.input_value(0), node.input_value(1)
        channels = features.get_partial_shape()[1]
        key = (features.get_node().get_friendly_name(), features.get_index())
        if key not in turned and channels.is_static:
            ones = opset13.constant(np.ones((channels.get_length(), 1, 1, 1, 1), np.float32))
            turned[key] = opset13.group_convolution(features, ones, [1, 1], [0, 0], [0, 0], [1, 1])
        if key in turned:
            node.input(0).replace_source_output(turned[key].output(0))
        model.add_outputs([boxes])


def layer_precisions(compiled: Any) -> set[str]:
    """What the layers that take the time are really computed in, such as {"BF16"}."""
    told = (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
    return {
        _text(info["runtimePrecision"]).upper()
        for info in told
        if _text(info["layerType"]) in ARITHMETIC
    }


def _refuse_other_precision(path: Path, precision: str, found: set[str]) -> None:
    expected = _EXPECTED.get(precision)
    wrong = not found & expected if expected else found & _EXPECTED["bf16"]
    if found and wrong:
        raise ModelFileError(
            f"{path.name} was to run in {precision}, OpenVINO computes it in "
            f"{', '.join(sorted(found))}",
            fix="set precision: auto or fp32",
        )


def _name(port: Any) -> str:
    """The name in the file. A value may go by several, and OpenVINO's node by the right one."""
    own = str(port.get_node().get_friendly_name()).removesuffix("/sink_port_0")
    names = sorted(port.get_names())
    return own if own in names else names[0]


def _text(info: Any) -> str:
    return str(getattr(info, "value", info))
