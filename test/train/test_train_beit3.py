"""The encoder against the authors' model, its ONNX graph, and slow loops."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F
from torchscale_models import published_state, torchscale_beit3

from robollm.core.errors import ConfigError
from robollm.export.beit3_graph import build_backbone
from robollm.train.beit3.attention import Attention, attend
from robollm.train.beit3.blocks import Block, PatchEmbed
from robollm.train.beit3.checkpoint import encoder_state, load_into
from robollm.train.beit3.encoder import Beit3Encoder
from robollm.train.beit3.positions import resize_positions
from robollm.train.beit3.settings import VARIANTS, settings_of


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def tiny(**changes: object) -> Beit3Encoder:
    """A small encoder whose weights are all away from 0 and 1."""
    encoder = Beit3Encoder("tiny", **({"depth": 2, "grid": 4} | changes)).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.ndim == 1:
                weight += torch.randn_like(weight) * 0.1
        encoder.pos_embed += torch.randn_like(encoder.pos_embed)
    return encoder


@pytest.mark.parametrize(
    ("variant", "changes"),
    [("small", {"depth": 2}), ("small", {"depth": 2, "grid": 24}), ("base", {"depth": 1})],
)
def test_it_equals_the_authors_model(tmp_path: Path, variant: str, changes: dict[str, int]) -> None:
    settings = settings_of(variant, **changes)
    theirs = torchscale_beit3(settings)
    torch.save({"model": published_state(theirs)}, tmp_path / "file.pth")
    ours = Beit3Encoder(variant, **changes).eval()
    assert load_into(ours, tmp_path / "file.pth").loaded == len(ours.state_dict())
    side = settings.grid * settings.patch
    image = torch.rand(2, 3, side, side) * 2 - 1
    with torch.no_grad():
        want = theirs(visual_tokens=image)["encoder_out"]
        got = ours.tokens(image)
        features = ours(image)
    assert (got - want).abs().max() < 1e-5
    torch.testing.assert_close(features.cls, want[:, 0], atol=1e-5, rtol=0)
    patches = features.map.flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, want[:, 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("variant", "millions"), [("base", 85.89), ("large", 303.55)])
def test_published_variants_have_the_papers_parameters(variant: str, millions: float) -> None:
    with torch.device("meta"):
        encoder = Beit3Encoder(variant)
    count = sum(p.numel() for p in encoder.parameters())
    assert round(count / 1e6, 2) == millions
    assert not list(encoder.buffers())  # nothing that a frozen encoder could still change


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 80), (16, 48)])
def test_its_onnx_graph_gives_the_same(height: int, width: int) -> None:
    encoder = tiny()
    weights = {k: v.numpy() for k, v in encoder_state(encoder).items()}
    graph = build_backbone(weights, heads=encoder.settings.heads)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    image = torch.rand(2, 3, height, width) * 2 - 1
    want_map, want_cls = session.run(["map", "cls"], {"image": image.numpy()})
    with torch.no_grad():
        got = encoder(image)
    assert got.map.is_contiguous()
    np.testing.assert_allclose(got.map.numpy(), want_map, atol=1e-4, rtol=0)
    np.testing.assert_allclose(got.cls.numpy(), want_cls, atol=1e-4, rtol=0)


def test_patches_are_embedded_as_by_a_convolution() -> None:
    embed = PatchEmbed(12, 4)
    image = torch.randn(2, 3, 8, 20)
    want = F.conv2d(image, embed.weight, embed.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(image), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (7, 3), (24, 24), (1, 30)])
def test_positions_are_resized_as_by_torch_and_the_first_row_is_kept(
    height: int, width: int
) -> None:
    table = torch.randn(1 + 16, 6)
    square = table[1:].T.reshape(1, 6, 4, 4)
    want = F.interpolate(square, size=(height, width), mode="bicubic", align_corners=False)
    got = resize_positions(table, height, width)
    torch.testing.assert_close(got[1:], want[0].flatten(1).T, atol=1e-5, rtol=1e-5)
    assert torch.equal(got[0], table[0])


def test_positions_keep_float32_under_autocast() -> None:
    table = torch.randn(1 + 16, 6)
    want = resize_positions(table, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resize_positions(table, 6, 6), want)


def slow_window_attention(
    attention: Attention, x: Tensor, grid: tuple[int, int], window: int
) -> Tensor:
    """Every query by itself, over the keys that it may see."""
    height, width = grid
    out = torch.zeros_like(x)
    d = x.shape[-1] // attention.heads
    for image in range(len(x)):
        q, k, v = (part(x[image]) for part in (attention.q, attention.k, attention.v))
        for token in range(len(q)):
            seen = list(range(1 + height * width))
            if token:
                y, u = divmod(token - 1, width)
                top, left = y // window * window, u // window * window
                seen = [0] + [
                    1 + row * width + column
                    for row in range(top, min(top + window, height))
                    for column in range(left, min(left + window, width))
                ]
            for head in range(attention.heads):
                of = slice(head * d, (head + 1) * d)
                scores = k[seen, of] @ q[token, of] / math.sqrt(d)
                out[image, token, of] = scores.softmax(0) @ v[seen, of]
    return attention.proj(attention.inner_norm(out))


@pytest.mark.parametrize(
    ("grid", "window"), [((4, 6), 2), ((5, 7), 3), ((3, 9), 4), ((2, 2), 8), ((1, 5), 2)]
)
def test_windows_equal_a_loop_over_tokens(grid: tuple[int, int], window: int) -> None:
    attention = Attention(12, 3).double()
    x = torch.randn(2, 1 + grid[0] * grid[1], 12, dtype=torch.float64, requires_grad=True)
    got = attention(x, grid, window)
    want = slow_window_attention(attention, x, grid, window)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    way = torch.randn_like(got)
    grads = [torch.autograd.grad((y * way).sum(), x)[0] for y in (got, want)]
    torch.testing.assert_close(*grads, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]
)
def test_attention_that_learns_equals_pytorchs_own_forward_and_backward(
    dtype: torch.dtype, limit: float
) -> None:
    torch.manual_seed(0)
    first = [torch.randn(2, 3, 50, 16, dtype=torch.float64) for _ in range(4)]
    exact = [x.clone().requires_grad_() for x in first[:3]]
    ours = [x.to(dtype).requires_grad_() for x in first[:3]]
    want = F.scaled_dot_product_attention(*exact)
    got = attend(*ours)
    assert got.dtype == dtype
    want.backward(first[3])
    got.backward(first[3].to(dtype))
    for one, other in ((got, want), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))):
        assert one is not None
        assert other is not None
        assert (one - other).abs().max() < limit * other.abs().max()
    frozen = [x.detach() for x in ours]
    assert torch.equal(attend(*frozen), F.scaled_dot_product_attention(*frozen))


def test_one_window_over_the_whole_image_is_global_attention() -> None:
    whole, windowed = tiny(), tiny(window=6, global_blocks=[0])
    windowed.load_state_dict(whole.state_dict())
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(windowed.tokens(image), whole.tokens(image))


def test_a_windowed_block_sees_only_its_window_and_cls() -> None:
    encoder = tiny(window=2, depth=1)
    image = torch.randn(1, 3, 64, 64)
    other = image.clone()
    other[..., :16, :16] = 0  # the first patch
    with torch.no_grad():
        changed = (encoder(image).map - encoder(other).map).abs().amax(1)[0] > 0
        cls_changed = (encoder(image).cls - encoder(other).cls).abs().max() > 0
    want = torch.zeros(4, 4, dtype=torch.bool)
    want[:2, :2] = True
    assert torch.equal(changed, want)
    assert cls_changed


def test_global_blocks_are_the_ones_named() -> None:
    encoder = Beit3Encoder("tiny", window=2, global_blocks=[3, 1])
    assert [b.window for b in encoder.blocks] == [2, 0, 2, 0]
    assert encoder.settings.global_blocks == (1, 3)


def test_the_drop_rate_rises_linearly_and_the_expectation_stays() -> None:
    settings = settings_of("tiny", drop_path=0.3)
    blocks = [Block(settings, i) for i in range(4)]
    assert [b.drop_path for b in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    dropped = blocks[3]._drop(torch.ones(20000, 1, 1)).flatten()
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(blocks[0]._drop(dropped), dropped)
    assert torch.equal(blocks[3].eval()._drop(dropped), dropped)


def test_a_dropped_sample_passes_a_block_unchanged() -> None:
    block = Block(settings_of("tiny", drop_path=0.9), 3)
    x = torch.randn(40, 5, 128)
    same = (block(x, (2, 2)) == x).flatten(1).all(1)
    assert 20 < same.sum() < 40


@pytest.mark.parametrize("window", [0, 2])
def test_checkpointing_changes_no_gradient(window: int) -> None:
    image = torch.randn(3, 3, 64, 48)
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        encoder = Beit3Encoder(
            "tiny", checkpointing=checkpointing, drop_path=0.5, window=window
        ).train()
        features = encoder(image)
        (features.map.square().mean() + features.cls.sum()).backward()
        grads.append({k: p.grad for k, p in encoder.named_parameters()})
    assert all(torch.equal(grads[0][k], grads[1][k]) for k in grads[0])
    assert all(g.abs().sum() > 0 for k, g in grads[0].items() if not k.endswith("attn.k.bias"))


def test_checkpointing_needs_no_memory_for_evaluation() -> None:
    encoder = tiny(checkpointing=True)
    image = torch.randn(1, 3, 64, 64)
    assert encoder(image).cls.grad_fn is not None  # eval is not no_grad
    with torch.no_grad():
        assert encoder.train()(image).cls.grad_fn is None


@pytest.mark.parametrize("window", [0, 3])
def test_bf16_autocast_is_close_and_trains(window: int) -> None:
    encoder = tiny(window=window)
    image = torch.randn(2, 3, 64, 80)
    want = encoder(image).map
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = encoder(image)
    assert got.map.dtype == got.cls.dtype == torch.float32
    assert F.cosine_similarity(got.map.flatten(1), want.flatten(1)).min() > 0.999
    got.map.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_each_image_is_encoded_for_itself() -> None:
    encoder = tiny(window=3)
    images = torch.randn(3, 3, 64, 80)
    with torch.no_grad():
        batch = encoder(images)
        for i in range(3):
            single = encoder(images[i : i + 1])
            torch.testing.assert_close(batch.map[i], single.map[0], atol=1e-5, rtol=1e-5)


def test_the_registry_builds_it_from_a_configuration() -> None:
    config = {"type": "Beit3Encoder", "variant": "tiny", "window": 7, "global_blocks": [3]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MMEngine's own imports
        encoder = MODELS.build(config)
    assert encoder.settings == replace(VARIANTS["tiny"], window=7, global_blocks=(3,))


def test_seeds_decide_the_first_weights_and_subln_scales_them() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(Beit3Encoder("tiny").state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["cls_token"], states[2]["cls_token"])
    bound = math.sqrt(6 / (128 + 128))
    gain = math.sqrt(math.log(2 * 4))
    assert states[0]["blocks.0.attn.q.weight"].abs().max() == pytest.approx(bound, rel=0.01)
    assert states[0]["blocks.0.attn.v.weight"].abs().max() == pytest.approx(bound * gain, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 3, 64, 70), (1, 4, 64, 64), (3, 64, 64)])
def test_an_image_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"multiples of 16") as e:
        tiny()(torch.zeros(shape))
    assert str(shape) in str(e.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 100, "heads": 3}, "don't divide into 3 heads"),
        ({"depth": 0}, "depth is 0"),
        ({"grid": 2.5}, "grid is 2.5"),
        ({"window": -1}, "window is -1"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"global_blocks": [1]}, "every block is global"),
        ({"window": 7, "global_blocks": [4]}, "global block 4"),
        ({"droppath": 0.1}, "did you mean 'drop_path'"),
        ({"q": 0.1}, "no setting 'q'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings_of("tiny", **changes)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'giant'(.|\n)*base, large"):
        Beit3Encoder("giant")
