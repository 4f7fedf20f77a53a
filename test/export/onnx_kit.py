"""ONNX Runtime in one line, and a size of sketch that is written in half a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from robollm.export.sketch import SketchSize

Run = Callable[..., dict[str, NDArray[np.float32]]]

TINY = SketchSize(dim=32, depth=2, heads=2, embedding=16, channels=16)


def load(model: onnx.ModelProto | Path) -> Run:
    """A function from named inputs to named outputs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]

    def run(**inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run
