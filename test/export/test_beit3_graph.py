"""The ONNX encoder against a slow NumPy one, and its windows and adapters against PyTorch's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from beit3_oracle import bicubic, encode
from onnx_kit import Run, load

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.beit3_graph import EncoderShape, Weights, build_backbone
from robollm.export.graphs import Array
from robollm.train.adapters.multiway import AdapterSettings, attach, switch
from robollm.train.beit3.encoder import Beit3Encoder

HEADS = 3
SIZES = [(2, 64, 64), (1, 96, 160), (3, 112, 80), (1, 16, 16), (1, 224, 224)]
ALPHAS = {"identification": 0.6, "defects": 0.3}


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


def encoder(**changes: object) -> Beit3Encoder:
    """A tiny encoder whose weights and biases are all away from 0."""
    sizes = {"dim": 24, "depth": 3, "heads": HEADS, "hidden": 48, **changes}
    made = Beit3Encoder("tiny", **sizes).eval()
    shake(made, seed=0)
    return made


def shake(module: torch.nn.Module, *, seed: int, part: str = "") -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if part in name:
                std = 0.3 if weight.ndim == 1 else 0.15
                weight += std * torch.randn(weight.shape, generator=generator)


def with_adapters(**changes: object) -> Beit3Encoder:
    """Two tasks whose adapters differ in size, one of them without an extractor."""
    made = encoder(**changes)
    attach(made, ["identification"], AdapterSettings(8, 12, ALPHAS["identification"]))
    attach(made, ["defects"], AdapterSettings(0, 5, ALPHAS["defects"]))
    shake(made, seed=1, part="adapters")
    return made


def weights_of(made: Beit3Encoder) -> dict[str, Array]:
    return {name: weight.numpy() for name, weight in made.state_dict().items()}


def compare(run: Run, made: Beit3Encoder, image: Array, **inputs: Array) -> None:
    with torch.no_grad():
        want = made(torch.from_numpy(image))
    got = run(image=image, **inputs)
    np.testing.assert_allclose(got["map"], want.map.numpy(), atol=2e-5, rtol=0)
    np.testing.assert_allclose(got["cls"], want.cls.numpy(), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("window", "global_blocks"), [(0, ()), (3, ()), (4, (1,)), (14, (0, 2)), (5, (0, 1, 2))]
)
def test_windows_are_those_of_the_trained_encoder_at_every_size(
    window: int, global_blocks: tuple[int, ...]
) -> None:
    made = encoder(window=window, global_blocks=global_blocks)
    model = build_backbone(
        weights_of(made), heads=HEADS, window=window, global_blocks=global_blocks
    )
    onnx.checker.check_model(model, full_check=True)
    run = load(model)
    for size in SIZES:
        compare(run, made, noise(size[0], 3, *size[1:]))


def test_windows_matter() -> None:
    weights, image = weights_of(encoder()), noise(1, 3, 96, 96)
    whole = load(build_backbone(weights, heads=HEADS))(image=image)["map"]
    cut = load(build_backbone(weights, heads=HEADS, window=3))(image=image)["map"]
    assert np.abs(whole - cut).max() > 0.01


def test_a_graph_in_windows_uses_only_default_operators() -> None:
    model = build_backbone(
        weights_of(with_adapters()), heads=HEADS, window=3, adapters=list(ALPHAS), alphas=ALPHAS
    )
    assert {n.domain for n in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]


def test_every_row_of_a_batch_has_the_adapters_of_its_own_task() -> None:
    made = with_adapters(window=3)
    run = load(
        build_backbone(
            weights_of(made), heads=HEADS, window=3, adapters=list(ALPHAS), alphas=ALPHAS
        )
    )
    names, image = [None, *ALPHAS], noise(5, 3, 64, 80)
    tasks = np.array([2, 0, 1, 1, 2])
    batch = run(image=image, task=tasks)
    for i, task in enumerate(tasks):
        with switch(made, names[task]), torch.no_grad():
            want = made(torch.from_numpy(image[i : i + 1]))
        np.testing.assert_allclose(batch["map"][i], want.map.numpy()[0], atol=2e-5, rtol=0)
        np.testing.assert_allclose(batch["cls"][i], want.cls.numpy()[0], atol=2e-5, rtol=0)
        alone = run(image=image[i : i + 1], task=tasks[i : i + 1])
        np.testing.assert_allclose(alone["map"][0], batch["map"][i], atol=1e-5, rtol=0)


def test_a_row_of_no_task_is_the_plain_encoder_to_the_last_bit() -> None:
    made = with_adapters()
    weights = weights_of(made)
    plain = {name: w for name, w in weights.items() if ".adapters." not in name}
    image = noise(2, 3, 64, 64)
    want = load(build_backbone(plain, heads=HEADS))(image=image)
    model = build_backbone(weights, heads=HEADS, adapters=list(ALPHAS), alphas=ALPHAS)
    got = load(model)(image=image, task=np.zeros(2, np.int64))
    np.testing.assert_array_equal(got["map"], want["map"])
    np.testing.assert_array_equal(got["cls"], want["cls"])


@pytest.mark.parametrize("task", ALPHAS)
def test_baked_adapters_are_always_on_and_leave_no_input(task: str) -> None:
    made = with_adapters()
    model = build_backbone(weights_of(made), heads=HEADS, baked=task, alphas=ALPHAS)
    assert [i.name for i in model.graph.input] == ["image"]
    with switch(made, task):
        compare(load(model), made, noise(2, 3, 48, 64))


def test_a_task_that_does_not_exist_fails_in_the_graph() -> None:
    model = build_backbone(
        weights_of(with_adapters()), heads=HEADS, adapters=list(ALPHAS), alphas=ALPHAS
    )
    with pytest.raises(Exception, match="out of data bounds"):
        load(model)(image=noise(1, 3, 16, 16), task=np.array([3]))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"adapters": ["defects"]}, "have adapters identification, which are not asked for"),
        ({}, "have adapters defects, identification, which are not asked for"),
        ({"baked": "segmentation"}, "no adapters 'segmentation', but identification, defects"),
        ({"adapters": list(ALPHAS), "alphas": {"defects": 1.0}}, "no alpha for .*'identific"),
        ({"adapters": ["defects"], "baked": "defects"}, "to be switched and 'defects' to be baked"),
        ({"adapters": ["defects", "defects"]}, "adapters are defects, defects"),
        ({"baked": "defects", "window": -1}, "window is -1"),
        ({"baked": "defects", "window": 2, "global_blocks": [3]}, r"global_blocks are \[3\]"),
        ({"baked": "defects", "global_blocks": [1]}, r"global_blocks are \[1\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises((ConfigError, ModelFileError), match=what):
        build_backbone(weights_of(with_adapters()), heads=HEADS, **({"alphas": ALPHAS} | options))


def test_a_missing_matrix_of_an_adapter_is_named() -> None:
    weights = weights_of(with_adapters())
    del weights["blocks.2.adapters.defects.enhancer.up.weight"]
    with pytest.raises(ModelFileError, match=r"'defects'.*2\.enhancer\.up\.weight'.*missing"):
        build_backbone(weights, heads=HEADS, baked="defects", alphas=ALPHAS)
