"""The ONNX encoder against a slow NumPy one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from beit3_oracle import bicubic, encode
from onnx_kit import load

from robollm.core.errors import ModelFileError
from robollm.export.beit3_graph import EncoderShape, Weights, build_backbone
from robollm.export.graphs import Array

HEADS = 3


def random_weights(seed: int = 0, *, dim: int = 24, depth: int = 2, grid: int = 14) -> Weights:
    """Every weight and bias away from 0 and 1, so that none can be forgotten."""
    rng = np.random.default_rng(seed)
    shape = EncoderShape(dim, depth, 4 * dim, 16, grid, HEADS)
    weights = {}
    for name, size in shape.expected().items():
        std = 0.3 if len(size) == 1 or name in ("cls_token", "pos_embed") else 1.2 / np.sqrt(dim)
        if name == "patch_embed.weight":
            std = 0.04
        one = 1.0 if "norm" in name and name.endswith(".weight") else 0.0
        weights[name] = (rng.normal(0, std, size) + one).astype(np.float32)
    return weights


def noise(*shape: int) -> Array:
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return build_backbone(random_weights(), heads=HEADS)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (384, 480), (16, 16), (48, 304)])
def test_the_graph_equals_the_slow_encoder(model: onnx.ModelProto, height: int, width: int) -> None:
    image = noise(1, 3, height, width)
    got = load(model)(image=image)
    want_map, want_cls = encode(random_weights(), image[0], heads=HEADS)
    assert got["map"].shape == (1, 24, height // 16, width // 16)
    assert got["map"].dtype == got["cls"].dtype == np.float32
    np.testing.assert_allclose(got["map"][0], want_map, atol=1e-4, rtol=0)
    np.testing.assert_allclose(got["cls"][0], want_cls, atol=1e-4, rtol=0)


def test_positions_count_and_are_not_resized_at_their_own_size() -> None:
    weights = dict(random_weights())
    table = weights["pos_embed"][1:].reshape(14, 14, -1).astype(np.float64)
    np.testing.assert_allclose(bicubic(table, 14, 14), table, atol=1e-12)
    image = noise(1, 3, 224, 224)
    with_them = load(build_backbone(weights, heads=HEADS))(image=image)
    weights["pos_embed"] = np.zeros_like(weights["pos_embed"])
    without = load(build_backbone(weights, heads=HEADS))(image=image)
    assert np.abs(with_them["map"] - without["map"]).max() > 0.1
    assert np.abs(with_them["cls"] - without["cls"]).max() > 0.1


def test_a_position_table_of_another_size_is_taken() -> None:
    weights = random_weights(depth=1, grid=24)
    image = noise(1, 3, 96, 64)
    got = load(build_backbone(weights, heads=HEADS))(image=image)
    want, _ = encode(weights, image[0], heads=HEADS)
    np.testing.assert_allclose(got["map"][0], want, atol=1e-4, rtol=0)


def test_a_batch_of_three_equals_three_single_runs(model: onnx.ModelProto) -> None:
    run = load(model)
    images = noise(3, 3, 96, 160)
    batch = run(image=images)
    for i in range(3):
        single = run(image=images[i : i + 1])
        for name in ("map", "cls"):
            np.testing.assert_allclose(batch[name][i], single[name][0], atol=1e-5, rtol=0)


def test_the_graph_uses_only_default_operators_and_passes_the_checker(
    model: onnx.ModelProto,
) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert {n.domain for n in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version <= 9


def test_each_matrix_is_stored_once(model: onnx.ModelProto) -> None:
    stored = sum(np.prod(t.dims, dtype=int) for t in model.graph.initializer)
    given = sum(v.size for v in random_weights().values())
    assert given - 24 <= stored < given + 500  # CLS and its position are added up beforehand


def test_a_missing_weight_is_named() -> None:
    weights = dict(random_weights())
    del weights["blocks.1.attn.inner_norm.bias"]
    with pytest.raises(ModelFileError, match=r"blocks\.1\.attn\.inner_norm\.bias'.*missing"):
        build_backbone(weights, heads=HEADS)


def test_an_unknown_weight_is_named() -> None:
    weights = dict(random_weights()) | {"head.weight": np.zeros(3, np.float32)}
    with pytest.raises(ModelFileError, match=r"head\.weight.*no such weight"):
        build_backbone(weights, heads=HEADS)


def test_a_matrix_of_the_wrong_shape_is_named() -> None:
    weights = dict(random_weights())
    weights["blocks.0.attn.q.weight"] = weights["blocks.0.attn.q.weight"][:, :3]
    with pytest.raises(ModelFileError, match=r"q\.weight'.*\(24, 3\), want \(24, 24\)"):
        build_backbone(weights, heads=HEADS)


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(ModelFileError, match="no BEiT-3 vision weights"):
        build_backbone({"fc.weight": np.zeros((2, 2), np.float32)}, heads=1)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ModelFileError, match="24 channels don't divide into 5 heads"):
        build_backbone(random_weights(), heads=5)
