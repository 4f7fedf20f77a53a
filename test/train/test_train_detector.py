"""The detector: pyramid, fast layers, learning-rate decay, configs, and that it learns."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from tote_scenes import HW, write_totes

import robollm.train
from robollm.core.errors import ConfigError
from robollm.train.detector import ops
from robollm.train.detector.cascade import DenseHead, ToteCascadeRCNN
from robollm.train.detector.simple_fpn import SimpleFPN
from robollm.train.detector.speed import speed_up
from robollm.train.engine.draws import Draw, collate
from robollm.train.engine.layer_decay import LayerDecay, layer_of

ops.prepare()
from mmcv.ops import RoIAlign  # noqa: E402

CONFIGS = Path(robollm.train.__file__).parent / "configs"
ALL = sorted(p.name for p in CONFIGS.glob("cascade-mask-rcnn_*.py"))


def config(name: str = "cascade-mask-rcnn_beit3-small_armbench.py") -> Config:
    return Config.fromfile(CONFIGS / name)


def tiny(classes: str = "agnostic", **changes) -> Config:
    """The small config, smaller: a tiny encoder, 32 channels, half the RoIs."""
    cfg = config()
    model = cfg.model
    model.backbone.encoder.variant = "tiny"
    model.neck.update(in_channels=128, out_channels=32)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.dense_head.in_channels = 32
    roi = model.roi_head
    for part in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = 32
    roi.bbox_head[0].update(in_channels=32, fc_out_channels=64)
    roi.mask_head.update(in_channels=32, conv_out_channels=32)
    model.train_cfg.rcnn[0].sampler.num = 24
    cfg.merge_from_dict({"model.classes": classes, **changes})
    for part in ("train", "val"):
        data = cfg[f"{part}_dataloader"].dataset
        data.update(canvas_hw=HW, classes=classes, split="train", masks="rle", min_area=0.0)
    cfg.train_dataloader.dataset.jitter = None
    return cfg


def built(cfg: Config, seed: int = 0) -> ToteCascadeRCNN:
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    for head in (model.rpn_head, *model.roi_head.bbox_head, *model.roi_head.mask_head):
        head.init_weights()
    return model


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("totes")
    write_totes(root, images=2)
    return root


def batch_of(cfg: Config, root: Path, items=(0,)) -> dict:
    data = DATASETS.build({**cfg.train_dataloader.dataset, "data_root": str(root)})
    return collate([data[Draw(0, i)] for i in items])


def losses_of(model, batch: dict) -> dict[str, torch.Tensor]:
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.loss(data["inputs"], data["data_samples"])


def train(model, batch: dict, steps: int, lr: float = 1e-3) -> list[float]:
    wrapper = {"optimizer": {"type": "AdamW", "lr": lr, "betas": (0.9, 0.99)}}
    wrapper["clip_grad"] = {"max_norm": 5.0}
    optim = LayerDecay(wrapper)(model.train())
    seen = []
    for step in range(steps):
        for group in optim.optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20) * (1 - 0.9 * step / steps)
        loss, _ = model.parse_losses(losses_of(model, batch))
        optim.update_params(loss)
        seen.append(float(loss.detach()))
    return seen


def found_in(model, cfg: Config, root: Path, index: int = 0) -> dict:
    data = DATASETS.build({**cfg.val_dataloader.dataset, "data_root": str(root)})
    batch = collate([data[index]])
    return model.eval().test_step(batch)[0].to_dict()


# ---------------------------------------------------------------------------------------------
# It learns


def test_twenty_steps_on_one_scene_lower_the_loss(root):
    cfg = tiny()
    model = built(cfg)
    seen = train(model, batch_of(cfg, root), 20)
    assert np.mean(seen[-3:]) < 0.75 * np.mean(seen[:3])


def test_two_hundred_steps_learn_one_scene_by_heart(root):
    cfg = tiny()
    model = built(cfg)
    train(model, batch_of(cfg, root), 200)
    metric = METRICS.build({**cfg.val_evaluator, "groups": ()})
    metric.process(None, [found_in(model, cfg, root)])
    scores = metric.evaluate(1)
    assert scores["class_agnostic_mask_mAP50"] > 0.9
    assert scores["class_agnostic_box_mAP50"] > 0.9


def test_a_blank_image_has_few_detections_after_a_little_training(root):
    cfg = tiny()
    model = built(cfg)
    batch = batch_of(cfg, root, (0, 2))  # a scene, and an image without annotations
    train(model, batch, 40)
    assert (found_in(model, cfg, root, 2)["pred_instances"]["scores"] > 0.5).sum() <= 1


@pytest.mark.parametrize("classes", ["agnostic", "two", "object"])
def test_every_class_mapping_gives_finite_losses_and_gradients(root, classes):
    cfg = tiny(classes)
    model = built(cfg)
    loss, _ = model.parse_losses(losses_of(model, batch_of(cfg, root, (0, 1, 2))))
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert torch.isfinite(loss)
    assert not without
    assert model.roi_head.bbox_head[0].fc_cls.out_features == (3 if classes == "two" else 2)


def test_a_batch_without_any_annotation_trains_every_parameter_that_it_can(root):
    cfg = tiny()
    model = built(cfg)
    loss, log = model.parse_losses(losses_of(model, batch_of(cfg, root, (2, 2))))
    loss.backward()
    assert torch.isfinite(loss)
    assert log["s0.loss_mask"] == 0
    assert log["loss_rpn_bbox"] == 0
    # DDP waits for every parameter's gradient.
    assert all(p.grad is not None for p in model.parameters())


def test_under_autocast_heads_give_float32_and_the_loss_stays_near(root):
    cfg = tiny()
    model = built(cfg)
    batch = batch_of(cfg, root, (0, 1))
    seen = {}
    for head in (model.rpn_head, model.roi_head.bbox_head[0], model.roi_head.mask_head[0]):
        head.register_forward_hook(lambda m, _, out: seen.__setitem__(type(m).__name__, out))
    torch.manual_seed(1)
    exact, _ = model.parse_losses(losses_of(model, batch))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = model.parse_losses(losses_of(model, batch))
        levels = model.extract_feat(torch.zeros(1, 3, *HW))
    rough.backward()
    assert all(level.dtype == torch.float32 for level in levels)
    assert all(level.is_contiguous() for level in levels)
    assert seen["RPNHead"][0][0].dtype == seen["RPNHead"][1][-1].dtype == torch.float32
    assert seen["Shared2FCBBoxHead"][1].dtype == torch.float32
    assert seen["FCNMaskHead"].dtype == torch.float32
    assert float(rough) == pytest.approx(float(exact), rel=0.1)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_our_loss_is_mmdetections_own(root):
    cfg = tiny(**{"model.dense_head": None, "model.fast": False})
    model = built(cfg)
    batch = batch_of(cfg, root, (0, 1))
    torch.manual_seed(3)
    ours = losses_of(model, batch)
    torch.manual_seed(3)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    theirs = super(ToteCascadeRCNN, model).loss(data["inputs"], data["data_samples"])
    assert ours.keys() == theirs.keys()
    a, b = (float(model.parse_losses(x)[0].detach()) for x in (ours, theirs))
    assert a == pytest.approx(b, rel=1e-6)


# ---------------------------------------------------------------------------------------------
# Parts


@pytest.mark.parametrize("halve", ["max_pool", "conv"])
@pytest.mark.parametrize("strides", [(4, 8, 16, 32, 64), (8, 16, 32, 64), (16, 32), (32, 64)])
def test_the_pyramid_has_the_strides_that_were_asked_for(strides, halve):
    neck = SimpleFPN(16, 8, strides=strides, halve=halve)
    out = neck((torch.randn(2, 16, 8, 12),))
    assert [tuple(x.shape) for x in out] == [(2, 8, 128 // s, 192 // s) for s in strides]
    assert all(x.is_contiguous() and x.dtype == torch.float32 for x in out)


def test_roi_align_of_a_level_is_that_of_its_contiguous_copy_whatever_its_strides():
    level = SimpleFPN(16, 8)((torch.randn(1, 16, 8, 8),))[0].detach()
    permuted = level.contiguous(memory_format=torch.channels_last)
    assert level.is_contiguous()
    assert not permuted.is_contiguous()
    rois = torch.tensor([[0, 3.0, 5.0, 70.0, 90.0]])
    assert torch.equal(RoIAlign(7, 0.25, 0)(level, rois), RoIAlign(7, 0.25, 0)(permuted, rois))


def test_the_finest_level_is_two_transposed_convolutions_as_in_vitdet():
    neck = SimpleFPN(16, 8)
    shapes = {n: tuple(p.shape) for n, p in neck.named_parameters() if n.startswith("scales")}
    assert shapes == {
        "scales.0.0.weight": (16, 8, 2, 2),
        "scales.0.0.bias": (8,),
        "scales.0.1.weight": (8,),
        "scales.0.1.bias": (8,),
        "scales.0.3.weight": (8, 4, 2, 2),
        "scales.0.3.bias": (4,),
        "scales.1.0.weight": (16, 8, 2, 2),
        "scales.1.0.bias": (8,),
    }


@pytest.mark.parametrize(
    "settings", [{"strides": ()}, {"strides": (8, 32)}, {"strides": (12, 24)}, {"halve": "mean"}]
)
def test_a_pyramid_that_cannot_be_built_is_refused(settings):
    with pytest.raises(ConfigError, match="strides"):
        SimpleFPN(16, 8, **settings)


def test_levels_that_contradict_the_anchors_are_refused():
    with pytest.raises(ConfigError, match="anchors"):
        built(tiny(**{"model.neck.strides": [4, 8, 16, 32]}))


def test_fast_layers_keep_names_and_values_and_give_the_same():
    torch.manual_seed(0)
    slow = nn.Sequential(
        nn.Conv2d(6, 8, 1),
        nn.ConvTranspose2d(8, 5, 2, stride=2),
        nn.Conv2d(5, 4, 3, padding=1),
        nn.ConvTranspose2d(4, 4, 2, stride=2, bias=False),
        nn.Conv2d(4, 4, 1, bias=False, groups=2),
        nn.Conv2d(4, 3, 3, stride=3),
    )
    fast = copy.deepcopy(slow)
    assert speed_up(fast) == 3
    assert speed_up(fast) == 0
    a, b = slow.state_dict(), fast.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(a[k], b[k]) for k in a)
    slow.load_state_dict(b)
    x = torch.randn(2, 6, 9, 7)
    outs, grads = [], []
    for model in (slow, fast):
        out = model(x)
        outs.append(out)
        grads.append(torch.autograd.grad(out.square().sum(), list(model.parameters())))
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_fast_detector_has_the_weights_of_the_slow_one_and_finds_the_same(root):
    slow = built(tiny(**{"model.fast": False})).eval()
    fast = built(tiny()).eval()
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(1, 3, *HW)
    for a, b in zip(slow.extract_feat(x), fast.extract_feat(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for a, b in zip(slow.rpn_head(slow.extract_feat(x)), fast.rpn_head(fast.extract_feat(x)),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-4)


def test_the_dense_loss_is_the_loop():
    class Masks:
        masks = np.zeros((3, 32, 48), np.uint8)

    Masks.masks[0, :, :] = 1  # under the others, though it comes first
    Masks.masks[1, 0:16, 0:24] = 1
    Masks.masks[2, 8:24, 16:40] = 1

    class Sample:
        class gt_instances:  # noqa: N801
            masks = Masks

    torch.manual_seed(0)
    head = DenseHead(4, 8)
    level = torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        got = head.loss(level, [Sample])
    labels = np.full((4, 6), 0)
    # 2 and 3 are of equal size: the later lies on top
    labels[0:2, 0:3], labels[1:3, 2:5] = 1, 2
    out = head.predict(level)[0].detach().numpy()
    edge = np.zeros((4, 6))
    for y in range(4):
        for x in range(6):
            near = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            here = labels[y, x]
            edge[y, x] = any(0 <= j < 4 and 0 <= i < 6 and labels[j, i] != here for j, i in near)
    want = F.binary_cross_entropy_with_logits(torch.tensor(out[1]).double(), torch.tensor(edge))
    assert float(got["loss_dense_edge"]) == pytest.approx(float(want), rel=1e-5)
    fg = F.binary_cross_entropy_with_logits(torch.tensor(out[0]), torch.ones(4, 6))
    assert float(got["loss_dense_fg"]) == pytest.approx(float(fg), rel=1e-5)
    total = 0.0
    for y in range(4):
        for x in range(6):
            cells = np.argwhere(labels == labels[y, x])
            for value, way in zip(out[2:, y, x], (cells.mean(0) - (y, x)) / 4, strict=True):
                d = abs(value - way)
                total += 0.5 * d * d if d < 1 else d - 0.5
    assert float(got["loss_dense_centre"]) == pytest.approx(0.5 * total / 24, rel=1e-4)


# ---------------------------------------------------------------------------------------------
# Learning rates


def test_layers_are_counted_from_the_input():
    names = ["pos_embed", "cls_token", "patch_embed.weight", "blocks.0.norm1.bias"]
    assert [layer_of(n, 4) for n in [*names, "blocks.3.mlp.fc1.weight", "norm.weight"]] == [
        0, 0, 0, 1, 4, 5,
    ]  # fmt: skip


class Wrapped(nn.Module):
    """An encoder somewhere, and a head with a scale."""

    def __init__(self, place: str) -> None:
        super().__init__()
        encoder = MODELS.build({"type": "Beit3Encoder", "variant": "tiny"})
        if place == "encoder":
            self.encoder = encoder
        else:
            self.detector = nn.ModuleDict({"backbone": nn.ModuleDict({"encoder": encoder})})
        self.head = nn.Linear(4, 3)
        self.logit_scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("place", ["encoder", "detector.backbone.encoder"])
def test_every_parameter_has_its_own_rate_and_weight_decay(place):
    model = Wrapped(place)
    model.get_submodule(place).blocks[1].norm1.requires_grad_(False)
    cfg = {"optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.1}}
    maker = OPTIM_WRAPPER_CONSTRUCTORS.get("LayerDecay")(cfg, {"layer_decay": 0.5})
    groups = maker(model).optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    got = {
        names[id(p)]: (g["lr"], g["weight_decay"], g["lr_scale"])
        for g in groups
        for p in g["params"]
    }
    want = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        inner = name.removeprefix(f"{place}.")
        layer = 5
        if inner.startswith("blocks."):
            layer = int(inner.split(".")[1]) + 1
        elif inner.split(".")[0] in ("pos_embed", "cls_token", "patch_embed"):
            layer = 0
        bare = p.ndim < 2 or inner in ("pos_embed", "cls_token")
        want[name] = (0.5 ** (5 - layer), 0.0 if bare else 0.1, 0.5 ** (5 - layer))
    assert got == want
    assert len(groups) <= 12
    assert sum(len(g["params"]) for g in groups) == len(want)


def test_the_wrapper_that_the_config_names_is_built():
    cfg = {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.1},
        "clip_grad": {"max_norm": 2.0},
    }
    wrapper = LayerDecay(cfg)(nn.Linear(2, 2))
    assert isinstance(wrapper.optimizer, torch.optim.SGD)
    assert wrapper.clip_grad_kwargs == {"max_norm": 2.0}
    assert cfg["optimizer"] == {"type": "SGD", "lr": 0.1}


@pytest.mark.parametrize(
    ("cfg", "paramwise", "word"),
    [
        ({"optimizer": {"lr": 1.0}}, {"layer_decay": 1.5}, "layer_decay"),
        ({"optimizer": {"lr": 1.0}}, {"decay": 0.5}, "layer_decay"),
        ({"optimizer": {}}, None, "lr"),
    ],
)
def test_wrong_learning_rate_settings_are_named(cfg, paramwise, word):
    with pytest.raises(ConfigError, match=word):
        LayerDecay(cfg, paramwise)


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(ConfigError, match="no parameter"):
        LayerDecay({"optimizer": {"type": "SGD", "lr": 1.0}})(nn.Linear(2, 2).requires_grad_(False))


# ---------------------------------------------------------------------------------------------
# Configs


@pytest.mark.parametrize("name", ALL)
def test_every_config_builds(name):
    cfg = config(name)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    classes = "two" if "two-class" in name else "agnostic"
    heads = [*model.roi_head.bbox_head, *model.roi_head.mask_head]
    assert {h.num_classes for h in heads} == {2 if classes == "two" else 1}
    parts = (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.val_evaluator)
    assert {p.classes for p in parts} == {classes}
    assert cfg.select.metric in METRICS.build(cfg.val_evaluator).names
    assert not [k for k in cfg if k.startswith("_")]
    size = sum(p.numel() for p in model.backbone.parameters())
    assert size == pytest.approx(
        {"base": 85.89e6, "large": 303.55e6, "small": 6.6e6}[name.split("-")[3].split("_")[0]],
        rel=0.02,
    )


def test_there_is_a_config_of_each_size_and_both_kinds_of_classes():
    sizes = ("base", "large", "small")
    assert sorted(ALL) == sorted(
        f"cascade-mask-rcnn_beit3-{s}_armbench{c}.py" for s in sizes for c in ("", "-two-class")
    )


def test_the_base_recipe_is_vitdets_and_robollms():
    cfg = config("cascade-mask-rcnn_beit3-base_armbench.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    settings = model.backbone.encoder.settings
    assert (settings.window, settings.global_blocks) == (14, (2, 5, 8, 11))
    stds = [h.bbox_coder.stds for h in model.roi_head.bbox_head]
    weights = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
    assert np.allclose(stds, 1 / np.array(weights))
    assert [c.assigner.pos_iou_thr for c in cfg.model.train_cfg.rcnn] == [0.5, 0.6, 0.7]
    assert cfg.optim_wrapper.optimizer.lr == 2e-4
    assert (cfg.train_cfg.max_epochs, cfg.select.patience) == (50, 5)
    assert config("cascade-mask-rcnn_beit3-large_armbench.py").optim_wrapper.paramwise_cfg == {
        "layer_decay": 0.8
    }


def test_three_stages_with_windows_and_layer_norm_heads_make_a_step(root):
    """The base recipe, with a tiny encoder and narrow heads, on a small canvas."""
    cfg = config("cascade-mask-rcnn_beit3-base_armbench.py")
    cfg.model.backbone.encoder = {
        "type": "Beit3Encoder", "variant": "tiny", "window": 4, "global_blocks": (1, 3),
    }  # fmt: skip
    cfg.model.neck.update(in_channels=128, out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    roi = cfg.model.roi_head
    for part in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = 16
    for head in roi.bbox_head:
        head.update(in_channels=16, conv_out_channels=16, fc_out_channels=32)
    roi.mask_head.update(in_channels=16, conv_out_channels=16)
    cfg.train_dataloader.dataset.update(canvas_hw=HW, jitter=None)
    model = built(cfg)
    loss, log = model.parse_losses(losses_of(model, batch_of(cfg, root)))
    loss.backward()
    assert {"s0.loss_mask", "s1.loss_bbox", "s2.loss_cls"} <= set(log)
    assert all(p.grad is not None for p in model.parameters())
