"""A graph in OpenVINO's own form: it maps those files, and copies what it reads of an ONNX file.

OpenVINO packs the weights of linear layers for the processor, and keeps what they were made from as
long as the model lives. Of an ONNX file that is a copy in memory: the weights are there twice. Of
its own form (graph.xml, graph.bin) it is the file, mapped: pages that the kernel may drop, and that
processes share.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from robollm.core.errors import ModelFileError
from robollm.runtime.bundle import file_sha256

_GRAPH, _DIGESTS = "graph.xml", "sha256.json"
_FILES = (_GRAPH, "graph.bin")


def read_mapped(core: Any, path: Path, cache: Path, version: str) -> Any:
    """Read a graph from its copy in OpenVINO's form, which is written if it isn't there or damaged.

    Args:
        core: OpenVINO's.
        path: the .onnx file.
        cache: a folder that belongs to the bundle of this file: copies go by the file's name.
        version: OpenVINO's; another one writes a copy of its own.

    Raises:
        ModelFileError: if the copy can't be written.
        RuntimeError: OpenVINO's, if it refuses the graph.
    """
    copy = cache / f"{path.stem}-openvino-{version}"
    if not _whole(copy):
        try:
            _write(core.read_model(path), copy)
        except OSError as e:
            raise ModelFileError(
                f"engine_cache: {copy} can't be written: {e.strerror}",
                fix="give a folder that this user may write to, on a disk with room, or none",
            ) from e
    return core.read_model(copy / _GRAPH)


def _whole(copy: Path) -> bool:
    """Whether a copy is there and as it was written. It is derived: a damaged one is made again."""
    try:
        want = json.loads((copy / _DIGESTS).read_text())
        return bool(want == {name: file_sha256(copy / name) for name in _FILES})
    except (OSError, ValueError):
        return False


def _write(model: Any, copy: Path) -> None:
    """Write a copy in one step: another process sees it whole or not at all."""
    import openvino

    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{copy.name}.", dir=copy.parent) as temp:
        fresh = Path(temp) / "copy"
        fresh.mkdir()
        openvino.save_model(model, fresh / _GRAPH, compress_to_fp16=False)
        digests = {name: file_sha256(fresh / name) for name in _FILES}
        (fresh / _DIGESTS).write_text(json.dumps(digests))
        shutil.rmtree(copy, ignore_errors=True)  # who has it mapped keeps it
        try:
            fresh.rename(copy)
        except OSError:
            if not _whole(copy):  # else another process was faster
                raise
