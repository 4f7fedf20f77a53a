"""What `robollm.runtime.doctor` asks in a process of its own, because it can end that process.

`python -m robollm.runtime.doctor_child VERB WORD ...` says objects, see `robollm.runtime.child`.
"""

from __future__ import annotations

import base64
import importlib
import os
import sys
import tempfile
from pathlib import Path

from robollm.runtime.child import say

# y (2, 2) = x (2, 2) matmul w, w = [[1, 2], [3, 4]], ONNX opset 17, IR 8, as
# `robollm.export.graphs.Graph` writes it: a runtime's package has nothing that could.
MATMUL = base64.b64decode(
    "CAgSB3JvYm9sbG06bAobCgF4CgF3EgF5Ggh5L01hdE11bCIGTWF0TXVsEgZkb2N0b3IqGwgCCAIQAUIBd0oQAACAPw"
    "AAAEAAAEBAAACAQFoTCgF4Eg4KDAgBEggKAggCCgIIAmITCgF5Eg4KDAgBEggKAggCCgIIAkIECgAQEQ=="
)  # fmt: skip
PRODUCT = [[1.0, 2.0], [3.0, 4.0]]


def imports(modules: list[str]) -> None:
    """Import each module and say its version; what it raises is said, too."""
    for name in modules:
        say(trying=name)
        try:
            module = importlib.import_module(name)
        except Exception as e:  # a broken install raises anything at import
            text = " ".join(str(e).split())
            say(module=name, error=f"{type(e).__name__}: {text}"[:300])
        else:
            # Not through getattr: some packages warn when they are asked.
            say(module=name, version=str(vars(module).get("__version__", "")))


def listed() -> None:
    """Say the providers that this ONNX Runtime was built with."""
    import onnxruntime

    say(listed=onnxruntime.get_available_providers())


def provider(name: str) -> None:
    """Multiply two matrices there; anything but the right product is an error."""
    import numpy as np

    from robollm.core.errors import ModelFileError
    from robollm.runtime.providers import open_engine

    profile = {"x": ((2, 2),) * 3}
    with tempfile.TemporaryDirectory(prefix="robollm-doctor-") as folder:
        path = Path(folder, "matmul.onnx")
        path.write_bytes(MATMUL)
        try:
            engine = open_engine(path, name, "fp32", 1, "", profile)
        except ModelFileError as e:
            sys.exit(e.what)
        got = engine.run({"x": np.eye(2, dtype=np.float32)}, ["y"])[0]
    if got.tolist() != PRODUCT:
        sys.exit(f"multiplied two matrices and got {got.tolist()}, want {PRODUCT}")
    say(where=engine.where)


def main(verb: str, *words: str) -> None:
    """Do one verb."""
    if verb == "imports":
        imports(list(words))
    elif verb == "listed":
        listed()
    else:
        provider(words[0])
    sys.stdout.flush()
    os._exit(0)  # some runtimes crash when they are unloaded, and that is not the question


if __name__ == "__main__":
    main(*sys.argv[1:])
