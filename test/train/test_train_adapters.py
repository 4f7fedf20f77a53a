"""MultiWay-Adapters: the formula, the frozen backbone, switching, and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export.beit3_graph import EncoderShape
from robollm.train.adapters.files import adapter_state, fingerprint, load_adapter, save_adapter
from robollm.train.adapters.multiway import (
    AdapterSettings,
    MultiWayAdapter,
    attach,
    attached,
    bake,
    freeze,
    switch,
)
from robollm.train.adapters.report import parameter_report
from robollm.train.beit3.checkpoint import encoder_state
from robollm.train.beit3.encoder import Beit3Encoder

TASKS = ("segmentation", "identification", "defects")
IMAGE = torch.linspace(-1, 1, 2 * 3 * 32 * 48).reshape(2, 3, 32, 48)


def tiny(seed: int = 0, **changes: object) -> Beit3Encoder:
    torch.manual_seed(seed)
    return Beit3Encoder("tiny", **({"depth": 2, "grid": 2} | changes)).eval()


def with_adapters(*tasks: str, seed: int = 0, **changes: object) -> Beit3Encoder:
    """An encoder whose adapters have learned something."""
    encoder = tiny(seed, **changes)
    attach(encoder, tasks, AdapterSettings(extractor=4, enhancer=6))
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if ".adapters." in name:
                weight += torch.randn_like(weight) * 0.1
    return encoder


def tokens(encoder: Beit3Encoder) -> Tensor:
    with torch.no_grad():
        return encoder.tokens(IMAGE)


def steps(encoder: Beit3Encoder, count: int) -> list[float]:
    """Train on a target, and return the losses."""
    target = torch.randn(2, 7, 128, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = (encoder.train().tokens(IMAGE) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("extractor", "enhancer"), [(3, 5), (0, 5), (3, 0)])
def test_an_adapter_follows_the_thesis_formulas(extractor: int, enhancer: int) -> None:
    torch.manual_seed(0)
    adapter = MultiWayAdapter(8, AdapterSettings(extractor, enhancer, alpha=0.3)).double()
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.copy_(torch.randn_like(weight))
    x_, ln, ffn = (torch.randn(2, 4, 8, dtype=torch.float64) for _ in range(3))
    w = adapter.state_dict()
    x = ffn + x_
    if extractor:
        down = ln @ w["extractor.down.weight"].T + w["extractor.down.bias"]
        x = x + 0.3 * (down.clamp(min=0) @ w["extractor.up.weight"].T + w["extractor.up.bias"])
    if enhancer:
        normed = (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, keepdim=True, unbiased=False) + 1e-5
        ).sqrt()
        down = normed @ w["enhancer.down.weight"].T + w["enhancer.down.bias"]
        x = x + 0.3 * (down.clamp(min=0) @ w["enhancer.up.weight"].T + w["enhancer.up.bias"])
    torch.testing.assert_close(x_ + adapter(x_, ln, ffn), x, atol=1e-12, rtol=0)


def test_a_norm_without_weights_before_a_biased_matrix_loses_nothing() -> None:
    norm, down = torch.nn.LayerNorm(8).double(), torch.nn.Linear(8, 3).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    merged = torch.nn.Linear(8, 3).double()
    merged.weight.data = down.weight.data * norm.weight.data
    merged.bias.data = down.bias.data + down.weight.data @ norm.bias.data
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(merged(torch.nn.functional.layer_norm(x, (8,))), down(norm(x)))


def test_a_fresh_adapter_changes_nothing() -> None:
    encoder = tiny()
    want = tokens(encoder)
    attach(encoder, ["defects"])
    switch(encoder, "defects")
    assert torch.equal(tokens(encoder), want)


def test_three_tasks_share_one_frozen_backbone() -> None:
    encoder = with_adapters(*TASKS)
    plain = tokens(encoder)
    outputs = {}
    for task in TASKS:
        with switch(encoder, task):
            outputs[task] = tokens(encoder)
        assert encoder.task is None
    every = [plain, *outputs.values()]
    assert all(not torch.allclose(a, b) for i, a in enumerate(every) for b in every[:i])
    alone = tiny()
    assert torch.equal(tokens(alone), plain)
    for task in TASKS:
        switch(encoder, task)  # lasts
        assert torch.equal(tokens(encoder), outputs[task])
    with pytest.raises(RuntimeError, match="in between"), switch(encoder, None):
        raise RuntimeError("in between")
    assert encoder.task == "defects"


def test_training_leaves_the_frozen_backbone_as_it_is_to_the_bit() -> None:
    encoder = with_adapters(*TASKS, drop_path=0.2)
    freeze(encoder)
    before = {k: v.numpy().tobytes() for k, v in encoder.state_dict().items()}
    switch(encoder, "defects")
    losses = steps(encoder, 12)
    assert losses[-1] < 0.9 * losses[0]
    after = {k: v.numpy().tobytes() for k, v in encoder.state_dict().items()}
    changed = {k for k in before if before[k] != after[k]}
    assert changed == {k for k in before if ".adapters.defects." in k}


def test_a_frozen_encoder_without_adapters_learns_nothing_at_all() -> None:
    encoder = tiny()
    freeze(encoder)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert encoder(IMAGE).map.grad_fn is None


def test_checkpointing_remembers_the_task_of_the_forward_pass() -> None:
    grads = []
    for checkpointing in (False, True):
        encoder = with_adapters(*TASKS, checkpointing=checkpointing).train()
        with switch(encoder, "defects"):
            loss = encoder.tokens(IMAGE).square().mean()
        with switch(encoder, "segmentation"):
            loss.backward()  # computes the blocks again
        grads.append({k: p.grad for k, p in encoder.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert {k.split(".")[3] for k in grads[0] if ".adapters." in k} == {"defects"}
    assert all(torch.equal(grads[0][k], grads[1][k]) for k in grads[0])


def test_a_baked_encoder_equals_the_switched_one_and_stands_alone() -> None:
    encoder = with_adapters(*TASKS)
    baked = bake(encoder, "identification")
    assert encoder.task is None
    assert attached(encoder) == TASKS
    assert attached(baked) == ("identification",)
    with switch(encoder, "identification"):
        want = tokens(encoder)
    assert torch.equal(tokens(baked), want)
    with torch.no_grad():
        encoder.cls_token += 1
    assert torch.equal(tokens(baked), want)


def test_the_encoders_own_weights_are_those_of_its_graph() -> None:
    encoder = with_adapters(*TASKS)
    weights = {k: v.numpy() for k, v in encoder_state(encoder).items()}
    assert EncoderShape.of(weights, heads=4).depth == 2
    assert weights.keys() == tiny().state_dict().keys()
    names = set(encoder.state_dict()) - weights.keys()
    assert "blocks.1.adapters.defects.enhancer.up.bias" in names


@pytest.mark.parametrize("known", [False, True])
def test_an_adapter_comes_back_from_its_file(tmp_path: Path, known: bool) -> None:
    encoder = with_adapters(*TASKS)
    save_adapter(encoder, "defects", tmp_path / "defects.pth")
    assert [f.name for f in tmp_path.iterdir()] == ["defects.pth"]
    other = with_adapters("defects") if known else tiny()
    assert load_adapter(other, tmp_path / "defects.pth") == "defects"
    assert other.task is None
    for each in (encoder, other):
        switch(each, "defects")
    assert torch.equal(tokens(other), tokens(encoder))
    assert torch.equal(tokens(bake(other, "defects")), tokens(encoder))


def test_an_adapter_file_holds_nothing_of_the_backbone(tmp_path: Path) -> None:
    encoder = with_adapters(*TASKS)
    save_adapter(encoder, "defects", tmp_path / "a.pth")
    weights = adapter_state(encoder, "defects")
    assert set(weights) == {
        f"blocks.{i}.{part}.{end}.{kind}"
        for i in range(2)
        for part in ("extractor", "enhancer")
        for end in ("down", "up")
        for kind in ("weight", "bias")
    }
    size = sum(v.numel() * 4 for v in weights.values())
    assert size < (tmp_path / "a.pth").stat().st_size < size + 20_000


@pytest.mark.parametrize("changes", [{"seed": 1}, {"window": 2}, {"depth": 3}])
def test_an_adapter_refuses_another_backbone_and_names_both(
    tmp_path: Path, changes: dict[str, int]
) -> None:
    encoder, other = with_adapters("defects"), tiny(**changes)
    save_adapter(encoder, "defects", tmp_path / "a.pth")
    with pytest.raises(ModelFileError, match="belongs to backbone") as e:
        load_adapter(other, tmp_path / "a.pth")
    assert fingerprint(encoder)[:12] in e.value.what
    assert fingerprint(other)[:12] in e.value.what
    assert not attached(other)


def test_a_backbone_is_the_same_with_whatever_adapters_and_training_settings() -> None:
    prints = {
        fingerprint(e)
        for e in (tiny(), with_adapters(*TASKS), tiny(drop_path=0.2, checkpointing=True))
    }
    assert len(prints) == 1
    nudged = tiny()
    with torch.no_grad():
        nudged.blocks[1].mlp.fc1.bias[3] += 1e-6
    assert fingerprint(nudged) not in prints


Change = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda saved: saved["weights"].popitem(), "not the weights that its settings promise"),
        (lambda saved: saved["settings"].update(extractor=9), "not the weights that"),
        (lambda saved: saved.update(format="robollm adapter 2"), "'robollm adapter 2'"),
        (lambda saved: saved.pop("backbone"), "no adapter"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: Change, words: str) -> None:
    encoder = with_adapters("defects")
    path = tmp_path / "a.pth"
    save_adapter(encoder, "defects", path)
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)
    fresh = tiny()
    with pytest.raises(ModelFileError, match=words):
        load_adapter(fresh, path)
    assert not attached(fresh)


def test_files_that_are_no_adapters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(ModelFileError, match="there is no adapter"):
        load_adapter(tiny(), path)
    path.write_bytes(b"something else")
    with pytest.raises(ModelFileError, match="can't be read as an adapter"):
        load_adapter(tiny(), path)
    torch.save([1], path)
    with pytest.raises(ModelFileError, match="format is 'list'"):
        load_adapter(tiny(), path)


def test_an_adapter_of_other_sizes_does_not_overwrite(tmp_path: Path) -> None:
    save_adapter(with_adapters("defects"), "defects", tmp_path / "a.pth")
    other = tiny()
    attach(other, ["defects"])
    with pytest.raises(ConfigError, match=r"extractor=4.*extractor=64"):
        load_adapter(other, tmp_path / "a.pth")


def test_wrong_use_is_named() -> None:
    encoder = with_adapters("defects")
    with pytest.raises(ConfigError, match="'defects' already"):
        attach(encoder, ["defects"])
    with pytest.raises(ConfigError, match=r"called 'a\.b'"):
        attach(encoder, ["a.b"])
    for wrong in (lambda: switch(encoder, "segmentation"), lambda: bake(encoder, "segmentation")):
        with pytest.raises(ConfigError, match="no adapter for 'segmentation', but for defects"):
            wrong()
    with pytest.raises(ConfigError, match="but for nothing"):
        adapter_state(tiny(), "defects")
    with pytest.raises(ConfigError, match=r"0 \+ 0 middle"):
        AdapterSettings(0, 0)
    with pytest.raises(ConfigError, match="alpha is 0"):
        AdapterSettings(alpha=0)


@pytest.mark.parametrize(
    ("variant", "vision", "fraction", "both"),
    [("base", 3_559_680, 0.0414, 7.12), ("large", 9_490_944, 0.0313, 18.98)],
)
def test_parameters_are_those_of_the_thesis_table(
    variant: str, vision: int, fraction: float, both: float
) -> None:
    with torch.device("meta"):
        encoder = Beit3Encoder(variant)
        attach(encoder, TASKS)
    freeze(encoder)
    report = parameter_report(encoder)
    assert report.adapters == dict.fromkeys(TASKS, vision)
    assert report.trainable == 3 * vision
    assert report.fraction("defects") == pytest.approx(fraction, abs=5e-5)
    assert round(report.both_branches["defects"] / 1e6, 2) == both
    text = str(report)
    assert f"defects: {vision / 1e6:.2f} M, {fraction:.2%} of the vision backbone" in text
    assert "the thesis has" in text
    if variant == "base":  # the only figure of the two that its text explains
        assert "3.21% of 222 M; the thesis has 7.13 M, 3.21%" in text


def test_the_report_of_a_small_encoder_has_nothing_to_compare_with() -> None:
    report = parameter_report(with_adapters("defects"))
    assert report.published is None
    assert "thesis" not in str(report)
    assert report.trainable == report.backbone + report.adapters["defects"]
