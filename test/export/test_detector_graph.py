"""The sketch's detector graphs: their parts against NumPy, and what holds for every result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx_kit import Run, load

from robollm.export import roi_graph
from robollm.export.detector_graph import (
    FINEST,
    STRIDES,
    DetectorRules,
    _Detector,
    build_proposals,
    build_rois,
    detector_shapes,
)
from robollm.export.graphs import Array, Graph
from robollm.export.pictures import Rgb, to_input, tote

DIM, CHANNELS = 12, 6
RULES = DetectorRules()


def random_detector(**changes: Array) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    weights = {
        name: (rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
        for name, shape in detector_shapes(DIM, CHANNELS, 16).items()
    }
    return weights | changes


def features(h: int, w: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(1, DIM, h, w)).astype(np.float32)


def iou(a: Array, b: Array) -> NDArray[np.float64]:
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    inside = np.clip(high - low, 0, None).prod(2, dtype=np.float64)
    area = [(x[:, 2:] - x[:, :2]).prod(1, dtype=np.float64) for x in (a, b)]
    return np.asarray(inside / (area[0][:, None] + area[1][None] - inside))


def detector(rules: DetectorRules = RULES, **changes: Array) -> Run:
    """Both graphs as one function from a map."""
    weights = random_detector(**changes)
    propose = load(build_proposals(weights, patch=16, rules=rules))
    detect = load(build_rois(weights, rules=rules))

    def run(**inputs: Array) -> dict[str, Array]:
        return detect(**propose(**inputs), proposals=np.array([rules.proposals]))

    return run


PROPOSE = load(build_proposals(random_detector(), patch=16, rules=RULES))
DETECT = load(build_rois(random_detector(), rules=RULES))
RUN = detector()


@given(h=st.integers(1, 20), w=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_every_result_is_valid_whatever_the_map(h: int, w: int, seed: int) -> None:
    got = RUN(map=features(h, w, seed))
    boxes, scores, labels, masks = (got[k] for k in ("boxes", "scores", "labels", "masks"))
    n = len(scores)
    assert n <= RULES.detections
    assert boxes.shape == (n, 4)
    assert masks.shape == (n, 28, 28)
    assert (labels.shape, labels.dtype) == ((n,), np.int64)
    assert boxes.dtype == scores.dtype == masks.dtype == np.float32
    assert (boxes >= 0).all()
    assert (boxes <= np.array([16 * w, 16 * h] * 2)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= RULES.min_side).all()
    assert (np.diff(scores) <= 0).all()
    assert ((scores > RULES.score_floor) & (scores <= 1)).all()
    assert ((masks >= 0) & (masks <= 1)).all()
    overlap = iou(boxes, boxes)
    np.fill_diagonal(overlap, 0)
    assert (overlap <= RULES.iou + 1e-5).all()


def test_the_same_map_gives_the_same_result() -> None:
    one, two = RUN(map=features(9, 12)), RUN(map=features(9, 12))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_no_score_over_the_floor_gives_empty_arrays() -> None:
    got = detector(**{"box.score.bias": np.array([-100], np.float32)})(map=features(6, 8))
    shapes = {k: v.shape for k, v in got.items()}
    assert shapes == {"boxes": (0, 4), "scores": (0,), "labels": (0,), "masks": (0, 28, 28)}


def test_no_proposal_at_all_gives_empty_arrays() -> None:
    thin = np.tile(np.array([0, 0, -1000, -1000], np.float32), 3)
    rules = DetectorRules(anchor=1.0)  # 8, 16, 32 px, made up to 62 times smaller
    got = detector(rules, **{"rpn.deltas.bias": thin})(map=features(6, 8))
    assert got["masks"].shape == (0, 28, 28)


def test_a_map_of_zeros_gives_finite_results() -> None:
    got = RUN(map=np.zeros((1, DIM, 6, 8), np.float32))
    assert all(np.isfinite(v).all() for v in got.values())


def test_the_rules_bound_the_number_of_results() -> None:
    rules = DetectorRules(detections=3)
    assert len(detector(rules)(map=features(9, 12))["scores"]) == 3


def test_the_input_proposals_bounds_how_many_boxes_are_looked_at() -> None:
    found = PROPOSE(map=features(9, 12))
    got = [len(DETECT(**found, proposals=np.array([n]))["scores"]) for n in (0, 1, 5)]
    assert got[0] == 0
    assert got[1] == 1
    assert 1 <= got[2] <= 5


def test_candidates_of_every_level_are_inside_the_canvas_and_thin_ones_are_marked() -> None:
    found = PROPOSE(map=features(9, 12))
    boxes, scores, levels = (
        found[k] for k in ("candidates", "candidate_scores", "candidate_levels")
    )
    assert boxes.shape == (len(scores), 4)
    assert set(levels) == {0, 1, 2}
    assert ((boxes >= 0) & (boxes <= [192, 144, 192, 144])).all()
    thin = (boxes[:, 2:] - boxes[:, :2]).min(1) <= RULES.min_side
    np.testing.assert_array_equal(scores < 0, thin)
    assert [found[f"levels.{i}"].shape[2:] for i in range(3)] == [(18, 24), (9, 12), (5, 6)]


@pytest.mark.parametrize("build", [build_proposals, build_rois])
def test_the_graphs_use_only_default_operators_and_pass_the_checker(
    build: Callable[..., onnx.ModelProto],
) -> None:
    patch = {"patch": 16} if build is build_proposals else {}
    model = build(random_detector(), rules=RULES, **patch)
    onnx.checker.check_model(model, full_check=True)
    assert {n.domain for n in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]


def detector_part() -> _Detector:
    return _Detector(Graph("part"), random_detector(), RULES, "")


def test_anchors_sit_on_their_cells_and_have_the_area_of_a_square() -> None:
    part = detector_part()
    level = part.g.input("level", [1, CHANNELS, "h", "w"])
    part.g.op("Identity", part._anchors(level, 8), out="anchors")
    part.g.output("anchors", ["n", 4])
    got = load(part.g.model())(level=np.zeros((1, CHANNELS, 2, 3), np.float32))["anchors"]
    want = []
    for y in range(2):
        for x in range(3):
            for ratio in (0.5, 1.0, 2.0):
                w, h = 40 / ratio**0.5, 40 * ratio**0.5
                cx, cy = 8 * x + 4, 8 * y + 4
                want.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_a_refined_box_is_the_one_the_formula_gives() -> None:
    g = Graph("part")
    limit = g.floats(100.0, 80.0, 100.0, 80.0)
    boxes, delta = g.input("boxes", ["n", 4]), g.input("delta", ["n", 4])
    g.op("Identity", roi_graph.refine(g, boxes, delta, limit), out="refined")
    g.output("refined", ["n", 4])
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 60, (50, 2))
    box = np.concatenate([low, low + rng.uniform(4, 40, (50, 2))], 1).astype(np.float32)
    move = rng.normal(0, 0.5, (50, 4)).astype(np.float32)
    move[0] = (0, 0, 100, -100)  # bounded: 62.5 times wider, 62.5 times lower
    got = load(g.model())(boxes=box, delta=move)["refined"]
    for b, d, r in zip(box.astype(float), move.astype(float), got, strict=True):
        w, h = b[2] - b[0], b[3] - b[1]
        cx, cy = b[0] + w / 2 + d[0] * w, b[1] + h / 2 + d[1] * h
        w, h = (
            s * min(max(np.exp(min(e, 50)), 16 / 1000), 1000 / 16)
            for s, e in ((w, d[2]), (h, d[3]))
        )
        want = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, [100, 80, 100, 80])
        np.testing.assert_allclose(r, want, atol=2e-4)


def test_each_box_is_pooled_on_the_level_of_its_size_and_keeps_its_place() -> None:
    """Level l is a picture of 1000 l + x + y: the pooled mean tells the level and the box."""
    g = Graph("part")
    boxes = g.input("boxes", ["n", 4])
    levels = [g.input(f"level{i}", [1, 1, "h", "w"]) for i in range(3)]
    rows, which = roi_graph.pool(
        g, levels, boxes, strides=STRIDES, finest=FINEST, side=7, sampling=2
    )
    roi_graph.in_order(g, rows, which, out="pooled")
    g.output("pooled", ["n", 1, 7, 7])
    ramps = {}
    for i, s in enumerate(STRIDES):
        y, x = np.mgrid[: 512 // s, : 512 // s]
        ramps[f"level{i}"] = (1000 * i + (x + y + 1) * s)[None, None].astype(np.float32)
    sides = np.array([300, 20, 500, 120, 223, 225, 60, 449, 447], np.float32)
    # away from the border, where the last sample is repeated, and off the grid
    corner = np.random.default_rng(0).uniform(0, 0.5, (len(sides), 2)) * (510 - sides)[:, None]
    box = np.concatenate([corner, corner + sides[:, None]], 1).astype(np.float32)
    got = load(g.model())(boxes=box, **ramps)["pooled"].mean((1, 2, 3))
    level = np.clip(np.floor(np.log2(sides / 112)), 0, 2)
    centre = (box[:, :2] + box[:, 2:]).sum(1) / 2
    assert set(level) == {0, 1, 2}
    np.testing.assert_allclose(got - 1000 * level, centre, atol=8)


def whole(sketch: Path) -> Callable[[Rgb], dict[str, Array]]:
    """From a picture to instances, with as many proposals as the card says."""
    encode, propose, detect = (
        load(sketch / f"{r}.onnx") for r in ("backbone", "proposals", "rois")
    )
    count = json.loads((sketch / "bundle.json").read_text(encoding="utf-8"))["detector"]

    def find(picture: Rgb) -> dict[str, Array]:
        found = propose(map=encode(image=to_input([picture]))["map"])
        return detect(**found, proposals=np.array([count["proposals"]]))

    return find


@pytest.mark.parametrize("hw", [(384, 480), (224, 224), (480, 640)])
def test_the_sketch_finds_things_in_totes_of_any_size(sketch: Path, hw: tuple[int, int]) -> None:
    detect = whole(sketch)
    rng = np.random.default_rng(11)
    counts = []
    for _ in range(4):
        found = detect(tote(rng, hw))
        counts.append(int((found["scores"] >= 0.5).sum()))
        assert ((found["masks"] >= 0.5).mean((1, 2)) > 0.2).all()
    assert all(3 <= c <= 40 for c in counts)
    assert len(set(counts)) > 1


@pytest.mark.parametrize("colour", [(0, 0, 0), (0.5, 0.5, 0.5), (1, 1, 1), (0.1, 0.2, 0.8)])
def test_the_sketch_finds_nothing_in_an_empty_picture(
    sketch: Path, colour: tuple[float, float, float]
) -> None:
    picture = np.zeros((384, 480, 3), np.float32) + np.array(colour, np.float32)
    assert (whole(sketch)(picture)["scores"] < 0.5).all()
