import math
import subprocess
import sys
from pathlib import Path

import loss_process
import pytest
import torch
from mmengine.registry import MODELS
from torch.nn.functional import normalize

from robollm.core.errors import ConfigError
from robollm.train.losses import (
    CLCELoss,
    InfoNCELoss,
    LaCViTLoss,
    SCLRHELoss,
    clce,
    info_nce,
    lacvit,
    pair_error_rates,
    scl_rhe,
)


def rows(n, d=5, seed=0, dtype=torch.float64):
    made = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(made, dim=1).to(dtype).requires_grad_()


def modules():
    torch.manual_seed(0)
    return [
        InfoNCELoss(),
        InfoNCELoss(transform="sine", same="multi"),
        LaCViTLoss(),
        CLCELoss(classes=5, dim=6),
        SCLRHELoss(),
    ]


@pytest.mark.parametrize("index", range(5))
def test_under_bfloat16_autocast_a_module_computes_in_float32(index):
    module = modules()[index]
    q, r = (rows(8, seed=seed, dtype=torch.bfloat16) for seed in (0, 1))
    y, features = torch.tensor([0, 0, 1, 2, 3, 4, 4, 4]), rows(8, d=6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = module(q, r, y, features)
    assert inside.dtype == torch.float32
    outside = module(q.float(), r.float(), y, features.float())
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)
    inside.backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


def test_supervised_modules_see_queries_and_references_as_one_batch():
    q, r, y = rows(6), rows(6, seed=1), torch.tensor([0, 0, 1, 2, 3, 3])
    x, both = torch.cat([q, r]), torch.cat([y, y])
    settings = {"temperature": 0.4, "tau_plus": 0.8, "tau_minus": 0.9, "positives": "printed"}
    torch.testing.assert_close(LaCViTLoss(0.2)(q, r, y), lacvit(x, both, 0.2))
    torch.testing.assert_close(SCLRHELoss(**settings)(q, r, y), scl_rhe(x, both, **settings))
    head = CLCELoss(classes=4, dim=3, weight=0.6).double()
    features = torch.randn(12, 3, dtype=torch.float64)
    for given, labels in ((features, both), (features[:6], y)):
        wanted = clce(x, both, head.classifier(given), labels, weight=0.6, temperature=0.5)
        torch.testing.assert_close(head(q, r, y, given), wanted)


def test_the_losses_are_registered_with_mmengine():
    for known in (InfoNCELoss, LaCViTLoss, CLCELoss, SCLRHELoss):
        assert MODELS.get(known.__name__) is known


def test_the_temperature_is_learned_and_never_beyond_its_limit():
    module = InfoNCELoss(init_temperature=0.07, max_scale=100.0)
    assert module.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        module.logit_scale.fill_(9.0)
    assert module.scale().item() == pytest.approx(100.0)
    # At the limit the gradient still leads back: wrong pairs want a smaller scale.
    q = rows(4)
    module(q, q.flip(0), torch.arange(4)).backward()
    assert module.logit_scale.grad > 0
    assert module.logit_scale.item() == pytest.approx(math.log(100.0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: InfoNCELoss(transform="cosine"), "sigmoid_shifted"),
        (lambda: InfoNCELoss(same="drop"), "mask, multi"),
        (lambda: InfoNCELoss(init_temperature=0.001), "1000"),
        (lambda: LaCViTLoss(temperature=0), "temperature is 0"),
        (lambda: CLCELoss(classes=3, dim=4, weight=1.5), "weight is 1.5"),
        (lambda: CLCELoss(classes=1, dim=4), "1 classes"),
        (lambda: SCLRHELoss(tau_plus=0), "tau_plus is 0"),
        (lambda: SCLRHELoss(beta_negative=-1), "beta_negative is -1"),
        (lambda: SCLRHELoss(w=0), "w is 0"),
        (lambda: SCLRHELoss(positives="hard"), "aim, printed"),
        (lambda: pair_error_rates(0.1, 2), "2 classes"),
        (lambda: CLCELoss(3, 4)(rows(2), rows(2), torch.tensor([0, 1])), "features are missing"),
        (
            lambda: CLCELoss(3, 5)(rows(2), rows(2), torch.tensor([0, 3]), rows(2)),
            "labels go from 0 to 3",
        ),
        (lambda: LaCViTLoss()(rows(3), rows(3), torch.arange(2)), r"labels are \(2,\)"),
        (lambda: lacvit(rows(3)[0], torch.arange(3)), r"embeddings are \(5,\)"),
        (lambda: info_nce(rows(3), rows(2), 1.0, torch.arange(3)), r"references are \(2, 5\)"),
    ],
)
def test_a_wrong_setting_or_shape_is_named(wrong, words):
    with pytest.raises(ConfigError, match=words):
        wrong()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    """What each of two gloo processes computes of its half of the batch."""
    folder = tmp_path_factory.mktemp("processes")
    script = [sys.executable, str(Path(loss_process.__file__))]
    running = [
        subprocess.Popen(
            [*script, str(rank), "2", str(folder / "meeting"), str(folder / f"{rank}")]
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(60) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [torch.load(folder / str(rank), weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", loss_process.LOSSES)
def test_two_processes_that_gather_train_as_one_on_the_joined_batch(of_two_processes, name):
    value, gradients = loss_process.step(loss_process.net(name), loss_process.batch())
    values = torch.stack([each[name][0] for each in of_two_processes])
    torch.testing.assert_close(values.mean(), value)
    if name != "CLCE":  # its cross-entropy stays at home
        torch.testing.assert_close(values, value.expand(2))
    for each in of_two_processes:
        torch.testing.assert_close(each[name][1], gradients)
