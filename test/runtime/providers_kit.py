"""Where OpenVINO can be tested, and sessions on the fixture `product`."""

from __future__ import annotations

import pytest

from robollm.runtime import providers
from robollm.runtime.precision import cpu_flags
from robollm.runtime.session import Place, Session

SIDE = 64


def has_openvino():
    try:
        import openvino
    except ImportError:
        return False
    return bool(openvino.__version__)


needs_openvino = pytest.mark.skipif(not has_openvino(), reason="openvino is not installed")
needs_bf16 = pytest.mark.skipif(
    cpu_flags().isdisjoint({"amx_bf16", "avx512_bf16"}), reason="this processor has no bf16"
)


def open_at(path, provider, precision="fp32"):
    return Session(path, Place(provider, precision, 1), inputs=("x",), outputs=("z", "y"))


def plugin(monkeypatch, *devices):
    monkeypatch.setattr(providers, "plugin_devices", lambda ort: list(devices))
