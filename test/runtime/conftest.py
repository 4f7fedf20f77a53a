"""Drawn reference pictures, a bundle with all heads, a small graph, providers that pretend."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from heads_kit import write_whole
from onnx import TensorProto, helper, numpy_helper
from providers_kit import SIDE

from robollm.runtime import embed_files, enroll, providers
from robollm.runtime.providers import PROVIDERS


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Six products with three drawn pictures each; read only."""
    folder, rng = tmp_path_factory.mktemp("references"), np.random.default_rng(0)
    for product in "abcdef":
        (folder / product).mkdir()
        for i in (1, 2, 3):
            pixels = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (120, 100))
            cv2.imwrite(str(folder / product / f"{i}.jpg"), pixels)
    return folder


@pytest.fixture
def pictures(tmp_path, drawn):
    """A copy of the six products, to change."""
    return Path(shutil.copytree(drawn, tmp_path / "pictures"))


@pytest.fixture
def small_commits(monkeypatch):
    """Commits of four pictures."""
    monkeypatch.setattr(enroll, "COMMIT", 4)


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of four pictures."""
    monkeypatch.setattr(embed_files, "BATCH_MAX", 4)


@pytest.fixture(scope="session")
def whole(sketch_bundle, tmp_path_factory):
    """The sketch with fusion, defects on sequences with references, and regions; read only."""
    return write_whole(sketch_bundle, tmp_path_factory.mktemp("whole") / "bundle")


@pytest.fixture
def product(tmp_path):
    """(N, 64) float32 -> two products with one matrix `y`, and what lies between them `z`."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
        helper.make_node("Identity", ["r"], ["z"]),
    ]
    tables = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", SIDE]) for n in names]
        for names in (["x"], ["y", "z"])
    ]
    g = helper.make_graph(nodes, "g", *tables, [numpy_helper.from_array(matrix, "w")])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def assigned(*parts):
    """What ONNX Runtime tells of (provider, operators of one of its subgraphs)."""
    return [
        SimpleNamespace(
            ep_name=ep, get_nodes=lambda ops=ops: [SimpleNamespace(op_type=op) for op in ops]
        )
        for ep, ops in parts
    ]


@pytest.fixture
def pretends(monkeypatch):
    """Sessions that say where they run: every provider that was asked for is registered."""
    import onnxruntime

    def say(provider, *parts):
        class Pretends(onnxruntime.InferenceSession):
            def get_providers(self):
                return [PROVIDERS[provider], PROVIDERS["cuda"], PROVIDERS["cpu"]]

            def get_provider_graph_assignment_info(self):
                real = super().get_provider_graph_assignment_info()  # an error if not recorded
                return assigned(*parts) if parts else real

        monkeypatch.setattr(providers, "_chain", lambda *_: [PROVIDERS["cpu"]])
        monkeypatch.setattr(onnxruntime, "InferenceSession", Pretends)

    return say
