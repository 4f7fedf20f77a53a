import loss_loops
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from robollm.train.losses import (
    TRANSFORMS,
    clce,
    info_nce,
    lacln,
    lacvit,
    pair_error_rates,
    scl_rhe,
)

SETTINGS = {
    "temperature": 0.5,
    "tau_plus": 0.9,
    "tau_minus": 0.95,
    "beta_positive": 1.0,
    "beta_negative": 0.7,
}
PRINTED = {**SETTINGS, "positives": "printed"}
SUPERVISED = {
    "lacvit": (lambda x, y: lacvit(x, y, 0.2), lambda x, y: loss_loops.lacvit(x, y, 0.2)),
    "lacln": (lambda x, y: lacln(x, y, 0.5), lambda x, y: loss_loops.lacln(x, y, 0.5)),
    "scl_rhe": (
        lambda x, y: scl_rhe(x, y, **SETTINGS),
        lambda x, y: loss_loops.scl_rhe(x, y, **SETTINGS),
    ),
    "scl_rhe printed": (
        lambda x, y: scl_rhe(x, y, **PRINTED),
        lambda x, y: loss_loops.scl_rhe(x, y, **PRINTED),
    ),
    "scl_rhe weighted": (
        lambda x, y: scl_rhe(x, y, **SETTINGS, q=3.0, w=7.0),
        lambda x, y: loss_loops.scl_rhe(x, y, **SETTINGS, q=3.0, w=7.0),
    ),
}
LABELS = {
    "usual": [0, 0, 1, 1, 1, 2, 2, 0],
    "a class without a positive": [0, 0, 1, 2, 2, 3, 2, 2],
    "all positive": [4, 4, 4, 4],
}


def rows(n, d=5, seed=0, dtype=torch.float64):
    made = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(made, dim=1).to(dtype).requires_grad_()


def value_and_gradient(loss, *leaves):
    fresh = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    value = loss(*fresh)
    return [value.detach(), *torch.autograd.grad(value, fresh)]


def check_equal(fast, slow, *leaves, **tolerances):
    got, wanted = value_and_gradient(fast, *leaves), value_and_gradient(slow, *leaves)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, **(tolerances or {"rtol": 1e-9, "atol": 1e-11}))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", SUPERVISED)
def test_a_supervised_loss_is_the_printed_formula_with_its_gradient(name, labels):
    fast, slow = SUPERVISED[name]
    y = torch.tensor(labels)
    check_equal(lambda x: fast(x, y), lambda x: slow(x, y), rows(len(y)))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("same", ["mask", "multi"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_info_nce_is_the_printed_formula_with_its_gradients(transform, same, labels):
    y = torch.tensor(labels)
    n = len(y)
    check_equal(
        lambda q, r, s: info_nce(q, r, s, y, transform=transform, same=same),
        lambda q, r, s: loss_loops.info_nce(q, r, s, y, transform, same),
        rows(n),
        rows(n, seed=1),
        torch.tensor(6.0, dtype=torch.float64),
    )


def test_without_equal_labels_info_nce_is_cross_entropy_on_the_diagonal():
    q, r, y = rows(7), rows(7, seed=1), torch.arange(7)
    logits = 14 * q @ r.T
    wanted = (cross_entropy(logits, y) + cross_entropy(logits.T, y)) / 2
    for same in ("mask", "multi"):
        torch.testing.assert_close(info_nce(q, r, 14.0, y, same=same), wanted)


def test_clce_is_the_weighted_sum_of_both_printed_formulas():
    y = torch.tensor([0, 1, 1, 2])
    both = torch.cat([y, y])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    check_equal(
        lambda x, z: clce(x, both, z, y, weight=0.7, temperature=0.5),
        lambda x, z: loss_loops.clce(x, both, z, y, 0.7, 0.5),
        rows(8),
        logits,
    )


@pytest.mark.parametrize("name", SUPERVISED)
def test_gradients_agree_with_finite_differences(name):
    y = torch.tensor(LABELS["a class without a positive"])
    assert torch.autograd.gradcheck(lambda x: SUPERVISED[name][0](x, y), rows(8))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_info_nce_gradients_agree_with_finite_differences(transform):
    y = torch.tensor([0, 1, 1, 2])
    for same in ("mask", "multi"):
        assert torch.autograd.gradcheck(
            lambda q, r, s, same=same: info_nce(q, r, s, y, transform=transform, same=same),
            (rows(4), rows(4, seed=1), torch.tensor(5.0, dtype=torch.float64, requires_grad=True)),
        )


def test_without_label_errors_and_weights_scl_rhe_is_plain_supervised_contrast():
    y = torch.tensor(LABELS["usual"])
    plain = {**SETTINGS, "tau_plus": 1.0, "tau_minus": 1.0, "beta_positive": 0, "beta_negative": 0}
    check_equal(lambda x: scl_rhe(x, y, **plain), lambda x: loss_loops.sup_in(x, y, 0.5), rows(8))


def test_scl_rhe_takes_the_printed_pair_of_rates():
    y = torch.tensor(LABELS["usual"])
    pair = {**SETTINGS, "tau_plus": 0.6, "tau_minus": 0.4}
    check_equal(
        lambda x: scl_rhe(x, y, **pair), lambda x: loss_loops.scl_rhe(x, y, **pair), rows(8)
    )


def pulls(x, y, **settings):
    """How much of the first anchor's gradient goes to an easy and to a hard positive."""
    gradient = torch.autograd.grad(scl_rhe(x, y, **settings), x)[0]
    return gradient[1].norm().item(), gradient[2].norm().item()


def test_the_aim_counts_easy_positives_less_and_the_print_counts_them_more():
    angle = torch.tensor([0.0, 0.2, 1.5, 2.5, 3.5, 4.5], dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
    y = torch.tensor([0, 0, 0, 1, 2, 3])
    easy, hard = pulls(x, y, **{**SETTINGS, "beta_positive": 0.0})
    aim_easy, aim_hard = pulls(x, y, **SETTINGS)
    print_easy, print_hard = pulls(x, y, **PRINTED)
    assert aim_easy / aim_hard < easy / hard < print_easy / print_hard


def test_clamped_brackets_follow_the_formula_and_pass_no_gradient():
    # The assigned positive is opposite, the negatives near: the estimate of true positives is < 0.
    x = torch.tensor([[1, 0], [-1, 0], [1, 0.1], [1, -0.1]], dtype=torch.float64)
    x = normalize(x, dim=1).requires_grad_()
    y = torch.tensor([0, 0, 1, 2])
    settings = {**SETTINGS, "tau_plus": 0.5, "tau_minus": 1.0}
    check_equal(
        lambda x: scl_rhe(x, y, **settings), lambda x: loss_loops.scl_rhe(x, y, **settings), x
    )


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize("labels", [[0, 1, 2], [5], []])
def test_a_batch_without_a_positive_gives_zero_with_a_gradient_of_zeros(name, labels):
    x = rows(len(labels))
    value = SUPERVISED[name][0](x, torch.tensor(labels, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(value, x)
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("same", ["mask", "multi"])
def test_info_nce_of_one_pair_or_none_is_zero_with_a_gradient_of_zeros(same):
    for n in (0, 1):
        q, r = rows(n), rows(n, seed=1)
        value = info_nce(q, r, 10.0, torch.arange(n), same=same)
        assert value == 0
        for gradient in torch.autograd.grad(value, (q, r)):
            assert torch.equal(gradient, torch.zeros_like(q))


def test_an_anchor_without_a_positive_counts_in_no_mean():
    x, y = rows(6), torch.tensor([0, 0, 1, 1, 2, 3])
    lone_as_negative = [loss_loops.sets(y, i) for i in range(6)]
    assert [len(positive) for positive, _ in lone_as_negative] == [1, 1, 1, 1, 0, 0]
    by_hand = 0.0
    for i, (positive, negative) in enumerate(lone_as_negative[:4]):
        s = (x[i] @ x.T / 0.1).exp()
        by_hand -= (s[positive[0]] / s[positive + negative].sum()).log().item() / 4
    assert lacvit(x, y, 0.1).item() == pytest.approx(by_hand)


def extreme(dtype):
    """Nearly equal, opposite and exactly equal rows, beside usual ones."""
    x = rows(12, dtype=dtype).detach()
    x[1], x[2], x[3] = x[0], -x[0], x[4]
    return x.requires_grad_(), torch.tensor([0, 0, 0, 1, 2, 1, 2, 3, 3, 4, 5, 5])


@pytest.mark.parametrize("positives", ["aim", "printed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_temperatures_stay_finite(dtype, positives):
    x, y = extreme(dtype)
    q = rows(12, seed=9, dtype=dtype)
    losses = [
        info_nce(q, x, 1e4, y, transform=transform, same=same)
        for transform in TRANSFORMS
        for same in ("mask", "multi")
    ]
    losses += [lacvit(x, y, 1e-3), lacln(x, y, 1e-3)]
    losses += [
        scl_rhe(
            x,
            y,
            temperature=1e-3,
            tau_plus=tau,
            tau_minus=tau,
            beta_positive=b,
            positives=positives,
        )
        for tau in (0.5, 0.935, 1.0)
        for b in (0.0, 1.0, 2.0)
    ]
    for loss in losses:
        assert torch.isfinite(loss)
        assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


@pytest.mark.parametrize("name", SUPERVISED)
def test_float32_is_close_to_float64(name):
    y = torch.arange(48) // 3
    check_equal_types(lambda x: SUPERVISED[name][0](x, y), rows(48, d=32, dtype=torch.float32))


@pytest.mark.parametrize("same", ["mask", "multi"])
def test_info_nce_in_float32_is_close_to_float64(same):
    y, r = torch.arange(48) // 3, rows(48, d=32, seed=1, dtype=torch.float32).detach()
    check_equal_types(
        lambda q: info_nce(q, r.to(q.dtype), 100.0, y, same=same),
        rows(48, d=32, dtype=torch.float32),
    )


def check_equal_types(loss, x):
    single = value_and_gradient(loss, x)
    double = value_and_gradient(loss, x.double())
    for one, other in zip(single, double, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SUPERVISED)
def test_the_order_of_a_batch_does_not_matter(name):
    x, y = rows(8), torch.tensor(LABELS["a class without a positive"])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5))
    loss = SUPERVISED[name][0]
    torch.testing.assert_close(loss(x[order], y[order]), loss(x, y))
    torch.testing.assert_close(
        info_nce(x[order], x.flip(1)[order], 10.0, y[order]), info_nce(x, x.flip(1), 10.0, y)
    )


def test_the_two_transforms_of_a_sigmoid_and_the_sine_spread_the_middle():
    s = torch.linspace(-1, 1, 101, dtype=torch.float64)
    for name, transform in TRANSFORMS.items():
        t = transform(s)
        assert (t.diff() > 0).all(), name
        assert t.abs().max() <= 1 + 1e-12
    for name in ("sine", "sigmoid"):
        assert TRANSFORMS[name](s)[[0, 50, 100]].tolist() == pytest.approx([-1, 0, 1])
        assert TRANSFORMS[name](s).std() > s.std()


def test_pair_error_rates_are_those_of_the_thesis_example():
    false_positives, false_negatives = pair_error_rates(0.05, 200)
    assert round(100 * false_positives, 2) == 9.75
    assert round(100 * false_negatives, 2) == 0.05
