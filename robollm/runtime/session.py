"""One way to run an exported model. Nothing above this file knows ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import InferenceError, ModelFileError
from robollm.runtime.providers import Engine, Profile, first_line, open_engine


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a graph runs.

    Attributes:
        provider: a key of `robollm.runtime.providers.PROVIDERS`.
        precision: one of `robollm.runtime.bundle.PRECISIONS`, resolved: never "auto".
        threads: of one run; 0: one per core.
        cache: folder of one bundle for TensorRT's engines and OpenVINO's copies; empty: none.
    """

    provider: str
    precision: str = "fp32"
    threads: int = 0
    cache: str = ""


class Session:
    """A loaded ONNX model. `run` may be called from several threads.

    There is no silent fallback: asking for a provider or a precision that is not really active
    is an error, because a slow node that says nothing is worse than one that doesn't start.

    Args:
        path: the .onnx file.
        place: where it runs.
        inputs: input names that the caller can feed; the graph may use some of them only. A name
            may end in `*`.
        outputs: output names that the caller reads; the graph must have all of them. A name that
            ends in `*` stands for one or more.
        profile: input -> smallest, usual and largest shape, for engines that are built for a
            range of shapes (TensorRT); others take any shape that the graph takes.

    Attributes:
        inputs: names of the inputs that the graph has.
        outputs: names of the outputs in the order in which `run` gives them.
        where: what it runs on, for people: "openvino 2026.4.1 (CPU, bf16)".

    Raises:
        ModelFileError: if the provider or the precision is not active, the file does not load, or
            its inputs and outputs are not those of this kind of graph.
    """

    def __init__(
        self,
        path: Path,
        place: Place,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        profile: Profile | None = None,
    ) -> None:
        self._name = path.name
        self._engine: Engine = open_engine(
            path, place.provider, place.precision, place.threads, place.cache, profile or {}
        )
        self.where = self._engine.where
        self.inputs = self._engine.inputs
        have = self._engine.outputs
        found = [sorted((n for n in have if fnmatchcase(n, o)), key=_counted) for o in outputs]
        taken = all(any(fnmatchcase(n, i) for i in inputs) for n in self.inputs)
        if not self.inputs or not taken or not all(found):
            raise ModelFileError(
                f"{path.name} maps {', '.join(self.inputs)} to {', '.join(sorted(have))}; want "
                f"{', '.join(inputs)} to {', '.join(outputs)}: it is another kind of graph",
                fix="point `graphs` in bundle.json at the right files",
            )
        self.outputs = tuple(name for names in found for name in names)

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once.

        Args:
            tensors: name -> array; entries that the graph does not use are left out.

        Returns:
            The outputs in the order of `outputs`: arrays of the caller's own.

        Raises:
            InferenceError: if the runtime fails or an output is not finite.
        """
        feed = {name: tensors[name] for name in self.inputs}
        try:
            values = self._engine.run(feed, self.outputs)
        except Exception as e:  # each runtime raises its own private types
            shapes = ", ".join(f"{k} {v.shape}" for k, v in feed.items())
            raise InferenceError(
                f"{self._name} failed on {shapes}: {first_line(e)}",
                fix="check the free memory and the bundle's input geometry",
            ) from e
        for name, value in zip(self.outputs, values, strict=True):
            if value.dtype.kind == "f" and not _finite(value):
                raise InferenceError(
                    f"{self._name} gave NaN or infinity in {name}",
                    fix="export the bundle again; fp16 overflows are the usual cause",
                )
        return values


def _finite(value: NDArray[Any]) -> bool:
    # One pass without a temporary: a sum is finite only if every term is. It may overflow, too.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(value.sum()):
            return True
    return bool(np.isfinite(value).all())


def _counted(name: str) -> tuple[int, str]:
    """Order of `levels.2` before `levels.10`."""
    return len(name), name
