"""The two small heads against the formula in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_kit import load

from robollm.export.graphs import Array, Graph
from robollm.export.head_graphs import build_defects, build_identification

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
