"""The small graphs against the formula in NumPy, and against the heads that are trained."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx_kit import load

from robollm.core.errors import ConfigError
from robollm.export.graphs import Array, Graph
from robollm.export.head_graphs import (
    POOLS,
    Compare,
    Linear,
    build_defects,
    build_defects_sequence,
    build_fusion,
    build_identification,
    build_regions,
)
from robollm.train.defects.head import DefectHead
from robollm.train.features import Features
from robollm.train.identification.head import IdentificationHead

RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(6, 10)).astype(np.float32)
BIAS = RNG.normal(size=6).astype(np.float32)
NORM = (RNG.normal(1, 0.2, 10).astype(np.float32), RNG.normal(size=10).astype(np.float32))
IDENTIFY = load(build_identification(WEIGHT, BIAS))
JUDGE = load(build_defects(NORM, WEIGHT[:3], BIAS[:3]))


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(seed=st.integers(0, 2**31), n=st.integers(1, 9))
def test_an_embedding_is_the_projected_cls_at_length_one(seed: int, n: int) -> None:
    cls = normal(seed, n, 10)
    got = IDENTIFY(cls=cls)["embedding"]
    want = cls.astype(np.float64) @ WEIGHT.T + BIAS
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_a_projection_of_length_zero_is_no_nan() -> None:
    run = load(build_identification(WEIGHT, np.zeros(6, np.float32)))
    np.testing.assert_array_equal(run(cls=np.zeros((2, 10), np.float32))["embedding"], 0)


@given(seed=st.integers(0, 2**31), h=st.integers(1, 6), w=st.integers(1, 6))
def test_defect_logits_are_a_line_over_the_normalised_mean_token(seed: int, h: int, w: int) -> None:
    features = normal(seed, 2, 10, h, w)
    mean = features.astype(np.float64).mean((2, 3))
    centred = mean - mean.mean(1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * NORM[0] + NORM[1]
    want = x @ WEIGHT[:3].T + BIAS[:3]
    np.testing.assert_allclose(JUDGE(map=features)["logits"], want, atol=1e-4)


def test_the_heads_pass_the_checker_and_use_default_operators() -> None:
    for model in (build_identification(WEIGHT, BIAS), build_defects(NORM, WEIGHT[:3], BIAS[:3])):
        onnx.checker.check_model(model, full_check=True)
        assert {n.domain for n in model.graph.node} == {""}


def test_a_name_is_stored_once() -> None:
    g = Graph("twice")
    g.const(WEIGHT, "w")
    with pytest.raises(ValueError, match="'w' is already in graph 'twice'"):
        g.const(WEIGHT, "w")


DIM = 12


def shaken(head: torch.nn.Module) -> torch.nn.Module:
    """Weights away from where training starts, where much is 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in head.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return head.eval()


def tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(normal(seed, *shape))


def array(weight: torch.Tensor) -> Array:
    return weight.detach().numpy()


def linear(layer: torch.nn.Module) -> Linear:
    return array(layer.weight), array(layer.bias)  # type: ignore[arg-type]


def identification_head(pool: str) -> IdentificationHead:
    made = IdentificationHead(
        dim=DIM, embed_dim=8, loss={"type": "InfoNCELoss"}, pool=pool, views=3, hidden=20
    )
    return shaken(made)  # type: ignore[return-value]


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_trained_head_embeds_references_as_in_training(pool: str) -> None:
    head = identification_head(pool)
    seen = Features(tensor(0, 4, DIM, 3, 5), tensor(1, 4, DIM))
    model = build_identification(array(head.projection.weight), pool=pool, features=True)
    name = "cls" if pool == "cls" else "map"
    assert [i.name for i in model.graph.input] == [name]
    got = load(model)(**{name: array(getattr(seen, name))})
    want = head.embed_references(lambda _: seen, seen.map)
    np.testing.assert_allclose(got["embedding"], array(want), atol=1e-6)
    np.testing.assert_allclose(got["features"], array(head._features(seen)), atol=1e-6)


def test_fusion_equals_the_trained_head_whatever_stands_in_missing_views() -> None:
    head = identification_head("cls")
    first, _, second = head.fusion
    run = load(
        build_fusion(
            array(head.missing), linear(first), linear(second), array(head.projection.weight)
        )
    )
    present = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    features = tensor(2, 4, 3, DIM)
    want = head.embed_views(
        lambda views: Features(views, features[present]), torch.zeros(4, 3, 3, 2, 2), present
    )
    features[~present] = torch.nan
    got = run(features=array(features), present=array(present.float()))["embedding"]
    np.testing.assert_allclose(got, array(want), atol=1e-6)


def defect_head(pool: str, reference: bool) -> tuple[DefectHead, Compare | None]:
    head = DefectHead(DIM, pool=pool, reference=reference, hidden=10)
    shaken(head)
    if head.compare is None or head.no_reference is None:
        return head, None
    first, _, second = head.compare
    return head, Compare(array(head.no_reference), linear(first), linear(second))


@pytest.mark.parametrize("reference", [False, True])
def test_defects_of_single_pictures_equal_the_trained_head(reference: bool) -> None:
    head, compare = defect_head("mean", reference)
    model = build_defects(linear(head.norm), *linear(head.classify), compare=compare, features=True)
    seen = tensor(4, 5, DIM, 3, 4)
    got = load(model)(map=array(seen))
    one = {
        "images": seen[:, None],
        "present": torch.ones(5, 1, dtype=torch.bool),
        "reference": seen,
        "has_reference": torch.zeros(5, dtype=torch.bool),
    }
    whole, _ = head._both(lambda x: Features(x, x[:, :, 0, 0]), one)
    np.testing.assert_allclose(got["logits"], array(whole), atol=1e-5)
    np.testing.assert_allclose(got["features"], array(head.norm(seen.mean((2, 3)))), atol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("reference", [False, True])
def test_sequences_equal_the_trained_head_whatever_stands_in_absent_frames(
    pool: str, reference: bool
) -> None:
    head, compare = defect_head(pool, reference)
    score = None if head.pool.score is None else linear(head.pool.score)
    run = load(
        build_defects_sequence(*linear(head.classify), pool=pool, score=score, compare=compare)
    )
    seen, references = tensor(5, 3, 4, DIM, 2, 2), tensor(6, 3, DIM, 2, 2)
    present = torch.tensor([[1, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)
    has = torch.tensor([True, False, True])
    inputs = {"images": seen, "present": present, "reference": references, "has_reference": has}
    want, _ = head._both(lambda x: Features(x, x[:, :, 0, 0]), inputs)
    frames, products = head.norm(seen.mean((3, 4))), head.norm(references.mean((2, 3)))
    frames, products = frames.detach(), products.detach()
    frames[~present], products[~has] = torch.nan, torch.nan
    feed = {"features": array(frames), "present": array(present.float())}
    if reference:
        feed |= {"reference": array(products), "has_reference": array(has.float())}
    np.testing.assert_allclose(run(**feed)["logits"], array(want), atol=1e-5)


def test_regions_average_the_map_inside_each_box() -> None:
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(8.0)))[None].astype(np.float32)
    run = load(build_regions(2, patch=16))
    boxes = np.array([[32, 16, 96, 112], [64, 64, 80, 80]], np.float32)
    got = run(map=grid, boxes=boxes)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / 16 - 0.5  # cell i's centre is at i + 0.5
    np.testing.assert_allclose(got["cls"], centres, atol=1e-4)
    assert got["maps"].shape == (2, 2, 7, 7)
    assert (np.diff(got["maps"][0, 0], axis=1) > 0).all()
    nothing = run(map=grid, boxes=boxes[:0])
    assert nothing["maps"].shape == (0, 2, 7, 7)
    assert nothing["cls"].shape == (0, 2)


def test_unknown_ways_to_pool_are_refused() -> None:
    with pytest.raises(ConfigError, match="pool is 'max'"):
        build_identification(WEIGHT, pool="max")
    with pytest.raises(ConfigError, match="pool is 'median' without a score"):
        build_defects_sequence(WEIGHT, BIAS, pool="median")
    with pytest.raises(ConfigError, match="pool is 'attention' without a score"):
        build_defects_sequence(WEIGHT, BIAS, pool="attention")
