"""The exported detector against MMDetection's own prediction, and its layers against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cascade_kit import (
    CANVAS,
    DIM,
    OFFICIAL,
    PATCH,
    SMALL,
    config,
    expected,
    exported,
    lively,
    same,
    smooth_map,
)
from mmcv.cnn import ConvModule
from onnx_kit import load
from torch import nn

from robollm.core.errors import ConfigError, ModelFileError
from robollm.export import roi_graph
from robollm.export.cascade_graph import build_proposals, build_rois, default_proposals
from robollm.export.graphs import Graph
from robollm.export.torch_layers import TorchLayers
from robollm.train.detector import roi_align
from robollm.train.detector.simple_fpn import LayerNorm2d

Change = Callable[[Any], None]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def per_class_boxes(model: Any) -> None:
    for head in model.roi_head.bbox_head:
        head.reg_class_agnostic = False


def one_mask_for_all(model: Any) -> None:
    model.roi_head.mask_head.class_agnostic = True


def convolution_halves(model: Any) -> None:
    model.neck.halve = "conv"


def batch_norms(model: Any) -> None:
    model.roi_head.mask_head.norm_cfg = {"type": "BN"}


def branches(model: Any) -> None:
    for head in model.roi_head.bbox_head:
        head.type = "ConvFCBBoxHead"
        head.update(num_shared_convs=1, num_cls_convs=1, num_cls_fcs=1, num_reg_convs=1)


def empty_boxes_count(model: Any) -> None:
    model.test_cfg.rpn.min_bbox_size = -1


def large_boxes_only(model: Any) -> None:
    model.test_cfg.rpn.min_bbox_size = 20


def other_codes(model: Any) -> None:
    model.rpn_head.bbox_coder.target_means = [0.1, -0.1, 0.05, 0.0]
    model.roi_head.bbox_head[0].bbox_coder.target_means = [0.0, 0.1, 0.0, -0.2]


def two_poolings(model: Any) -> None:
    roi = model.roi_head
    roi.mask_roi_extractor = [roi.mask_roi_extractor.copy() for _ in range(3)]
    roi.mask_roi_extractor[1].finest_scale = 20


def compare(model: Any, number: int) -> None:
    """On one map; and what is found is worth a comparison."""
    features = smooth_map(number)
    want = expected(model, features, CANVAS)
    assert len(want["scores"]) >= 5
    assert np.ptp(want["scores"]) > 0.01
    same(exported(model)(features), want)


@pytest.mark.parametrize("classes", ["agnostic", "two"])
@pytest.mark.parametrize("name", [SMALL, OFFICIAL])
@pytest.mark.parametrize("seed", [0, 2])
def test_the_graphs_find_what_mmdetection_finds(name: str, classes: str, seed: int) -> None:
    compare(lively(config(name, classes=classes), seed), seed + 10)


@pytest.mark.parametrize(
    ("name", "classes", "change"),
    [
        (SMALL, "two", per_class_boxes),
        (OFFICIAL, "two", per_class_boxes),
        (SMALL, "two", one_mask_for_all),
        (SMALL, "agnostic", convolution_halves),
        (SMALL, "agnostic", batch_norms),
        (SMALL, "agnostic", branches),
        (SMALL, "agnostic", empty_boxes_count),
        (SMALL, "agnostic", large_boxes_only),
        (SMALL, "agnostic", other_codes),
        (OFFICIAL, "agnostic", two_poolings),
    ],
)
def test_so_they_do_with_other_settings(name: str, classes: str, change: Change) -> None:
    cfg = config(name, classes=classes)
    change(cfg)
    compare(lively(cfg, 0), 0)


@pytest.mark.parametrize("hw", [(80, 112), (144, 64)])
def test_a_canvas_may_have_levels_of_odd_size(hw: tuple[int, int]) -> None:
    for name in (SMALL, OFFICIAL):
        model = lively(config(name), 3)
        features = smooth_map(5, hw)
        same(exported(model, hw)(features), expected(model, features, hw))


def test_the_input_proposals_is_mmdetections_limit() -> None:
    model = lively(config(), 0)
    find, features = exported(model), smooth_map(0)
    for limit in (1, 7, 40):
        model.test_cfg.rpn.max_per_img = limit
        assert default_proposals(model) == limit
        same(find(features, limit), expected(model, features, CANVAS))


@pytest.mark.parametrize("classes", ["agnostic", "two"])
def test_the_input_score_min_only_leaves_out_what_scores_less(classes: str) -> None:
    model = lively(config(classes=classes), 0)
    propose = load(build_proposals(model, canvas_hw=CANVAS, patch=PATCH))
    detect = load(build_rois(model, canvas_hw=CANVAS))
    found, count = propose(map=smooth_map(0)), np.array([100])
    every = detect(**found, proposals=count, score_min=np.zeros(1, np.float32))
    same(every, expected(model, smooth_map(0), CANVAS))
    for least in (float(every["scores"][7]), 2.0):
        some = detect(**found, proposals=count, score_min=np.array([least], np.float32))
        over = every["scores"] > least
        assert over.sum() in (7, 0)
        same(some, {k: v[over] for k, v in every.items()})


def shapes(found: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {k: v.shape for k, v in found.items()}


NOTHING = {"boxes": (0, 4), "scores": (0,), "labels": (0,), "masks": (0, 28, 28)}


@pytest.mark.parametrize("name", [SMALL, OFFICIAL])
def test_nothing_at_any_place_of_the_chain_gives_empty_arrays(name: str) -> None:
    model = lively(config(name, classes="two"), 0)
    assert shapes(exported(model)(smooth_map(1), 0)) == NOTHING
    with torch.no_grad():
        for head in model.roi_head.bbox_head:
            head.fc_cls.bias[-1] = 1000
        assert shapes(exported(model)(smooth_map(1))) == NOTHING
        assert shapes(expected(model, smooth_map(1), CANVAS)) == NOTHING
        model.rpn_head.rpn_reg.bias.fill_(-1000)
    model.test_cfg.rpn.min_bbox_size = 60
    assert shapes(exported(model)(smooth_map(1))) == NOTHING


@pytest.mark.parametrize("name", [SMALL, OFFICIAL])
def test_every_shape_of_the_first_graph_is_known_beforehand(name: str) -> None:
    model = build_proposals(lively(config(name)), canvas_hw=CANVAS, patch=PATCH)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    known = {v.name: v.type.tensor_type.shape.dim for v in (*graph.value_info, *graph.output)}
    assert {out for node in graph.node for out in node.output} == set(known)
    assert all(d.HasField("dim_value") for dims in known.values() for d in dims)
    real = load(model)(map=smooth_map(0))
    assert {k: tuple(d.dim_value for d in known[k]) for k in real} == shapes(real)


@pytest.mark.parametrize("name", [SMALL, OFFICIAL])
def test_the_graphs_are_plain_onnx_and_the_same_every_time(name: str) -> None:
    detector = lively(config(name))
    for build in (
        lambda: build_proposals(detector, canvas_hw=CANVAS, patch=PATCH),
        lambda: build_rois(detector, canvas_hw=CANVAS),
    ):
        model = build()
        onnx.checker.check_model(model, full_check=True)
        assert {n.domain for n in model.graph.node} == {""}
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
        assert model.SerializeToString(deterministic=True) == build().SerializeToString(
            deterministic=True
        )


def test_constants_have_the_names_of_their_modules() -> None:
    detector = lively(config(SMALL))
    names = {
        i.name
        for m in (
            build_proposals(detector, canvas_hw=CANVAS, patch=PATCH),
            build_rois(detector, canvas_hw=CANVAS),
        )
        for i in m.graph.initializer
    }
    weights = {n for n in detector.state_dict() if n.startswith(("neck", "rpn_head", "roi_head"))}
    assert weights <= names


def wrong_neck(model: Any) -> None:
    model.neck = nn.Identity()


def soft_nms(model: Any) -> None:
    model.test_cfg.rcnn.nms.type = "soft_nms"


def largest_values(model: Any) -> None:
    model.roi_head.mask_roi_extractor[0].roi_layers[0].pool_mode = "max"


def tanh(model: Any) -> None:
    model.roi_head.mask_head[0].convs[1].activate = nn.Tanh()


def centres_clamped(model: Any) -> None:
    model.rpn_head.bbox_coder.add_ctr_clamp = True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (wrong_neck, "the neck is a Identity, want SimpleFPN"),
        (soft_nms, r"test_cfg.rcnn.nms is .*soft_nms"),
        (largest_values, "RoIAlign .*takes maxima"),
        (tanh, r"mask_head.0.convs.1.activate is a Tanh[\s\S]*fix: .*GroupNorm"),
        (centres_clamped, "rpn_head.bbox_coder .*clamps centres"),
    ],
)
def test_a_part_that_is_not_known_is_refused_by_name(change: Change, says: str) -> None:
    model = lively(config(SMALL))
    change(model)
    with pytest.raises(ModelFileError, match=says):
        build_rois(model, canvas_hw=CANVAS)


def test_a_canvas_or_patch_that_does_not_fit_is_refused() -> None:
    model = lively(config(SMALL))
    with pytest.raises(ConfigError, match="128 x 100 px, want multiples of 16"):
        build_proposals(model, canvas_hw=(100, 128), patch=PATCH)
    with pytest.raises(ConfigError, match="patch is 14 px, but the detector's is 16"):
        build_proposals(model, canvas_hw=CANVAS, patch=14)


@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
def test_roi_align_samples_as_the_training_does(sampling: int) -> None:
    """Any box, wider than the map or less than a cell; 0 is as many points as there are cells."""
    rng = np.random.default_rng(sampling)
    level = rng.normal(size=(1, 5, 20, 30)).astype(np.float32)
    corner = rng.uniform(-20, 200, (60, 2))
    sides = np.exp(rng.uniform(-2, 6, (60, 2)))
    boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32)
    g = Graph("part")
    rows, which = roi_graph.pool(
        g,
        [g.input("level", [1, 5, 20, 30])],
        g.input("boxes", ["n", 4]),
        strides=(8,),
        finest=56,
        side=7,
        sampling=sampling,
    )
    roi_graph.in_order(g, rows, which, out="pooled")
    g.output("pooled", ["n", 5, 7, 7])
    got = load(g.model())(level=level, boxes=boxes)["pooled"]
    rois = torch.from_numpy(np.concatenate([np.zeros((60, 1), np.float32), boxes], 1))
    how = roi_align.plan(rois, (1, 20, 30), (7, 7), scale=1 / 8, sampling=sampling, aligned=True)
    want = roi_align.forward(torch.from_numpy(level), how)
    np.testing.assert_allclose(got, want.numpy(), atol=2e-5)


def conv_module(**options: Any) -> nn.Module:
    return ConvModule(DIM, 8, 3, padding=1, **options)


LAYERS = {
    "convolution": nn.Conv2d(DIM, 6, 3, stride=2, padding=(1, 0), dilation=2, groups=2),
    "without bias": nn.Conv2d(DIM, 6, 1, bias=False),
    "transposed": nn.ConvTranspose2d(DIM, 6, 2, stride=2),
    "transposed, overlapping": nn.ConvTranspose2d(
        DIM, 6, 3, stride=2, padding=1, output_padding=1, groups=2
    ),
    "norm of channels": LayerNorm2d(DIM, eps=1e-3),
    "norm of lines": nn.LayerNorm(8),
    "norm of groups": nn.GroupNorm(4, DIM),
    "norm of groups, bare": nn.GroupNorm(6, DIM, affine=False),
    "norm of batches": nn.BatchNorm2d(DIM),
    "linear": nn.Linear(8, 5),
    "linear without bias": nn.Linear(8, 5, bias=False),
    "pooling": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    "in a row": nn.Sequential(nn.Conv2d(DIM, 4, 1), nn.GELU(), nn.Dropout(), nn.Identity()),
    "mmcv": conv_module(norm_cfg={"type": "LayerNorm2d"}),
    "mmcv, groups": conv_module(norm_cfg={"type": "GN", "num_groups": 2}),
    "mmcv, turned": conv_module(norm_cfg={"type": "BN"}, order=("norm", "act", "conv")),
    "mmcv, bare": conv_module(act_cfg=None),
}


@pytest.mark.parametrize("module", LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_is_pytorchs(module: nn.Module) -> None:
    rng = torch.Generator().manual_seed(4)
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_floating_point():
            low, high = (0.5, 2.0) if name.endswith("running_var") else (-1.0, 1.0)
            value.data.uniform_(low, high, generator=rng)
    x = torch.randn(3, DIM, 6, 8, generator=rng)
    with torch.no_grad():
        want = module.eval()(x)
    g = Graph("layer")
    layers, name = TorchLayers(g), g.input("x", ["n", DIM, 6, 8])
    out = layers(module, name, "layer")
    again = layers(module, name, "layer")  # weights are stored once
    for value, public in ((out, "y"), (again, "z")):
        g.op("Identity", value, out=public)
        g.output(public, ["n", *want.shape[1:]])
    run = load(g.model())
    got = run(x=x.numpy())
    np.testing.assert_allclose(got["y"], want.numpy(), atol=2e-5)
    np.testing.assert_array_equal(got["y"], got["z"])
    assert run(x=x[:0].numpy())["y"].shape == (0, *want.shape[1:])


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "layer has its padding"),
        (nn.Conv2d(3, 3, 3, padding="same"), "layer has its padding"),
        (nn.GELU(approximate="tanh"), "approximate='tanh'"),
        (nn.LayerNorm((3, 3)), "several axes"),
        (nn.BatchNorm2d(3, track_running_stats=False), "no running statistics"),
        (nn.Sequential(nn.Identity(), nn.Softplus()), "layer.1 is a Softplus"),
        (type("MyConv", (nn.Conv2d,), {})(3, 3, 1), "layer is a MyConv"),
    ],
)
def test_a_layer_or_setting_that_is_not_known_is_refused(module: nn.Module, says: str) -> None:
    g = Graph("layer")
    with pytest.raises(ModelFileError, match=says):
        TorchLayers(g)(module, g.input("x", [1, 3, 4, 4]), "layer")
