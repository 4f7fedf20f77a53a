from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from robollm.core.errors import FrameError, InferenceError
from robollm.core.frame import Frame
from robollm.core.letterbox import Letterbox
from robollm.core.settings import DefectConfig, RuntimeConfig
from robollm.runtime import overlay
from robollm.runtime.backbone import Features, usual_batch
from robollm.runtime.heads import Embedder, Inspector
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.segmenter import Segmenter
from robollm.runtime.session import Place
from robollm.runtime.timing import Laps


@pytest.fixture(scope="module")
def tote():
    """A drawn tote, (720, 960, 3) uint8 RGB."""
    from robollm.export.pictures import tote

    return (tote(np.random.default_rng(5), (720, 960)) * 255).astype(np.uint8)


def shrunk(image, hw):
    return cv2.resize(image, hw[::-1], interpolation=cv2.INTER_AREA).reshape(*hw, 3)


# segmentation


@pytest.mark.parametrize(
    "hw", [(720, 960), (480, 640), (1080, 1920), (96, 50), (33, 77), (3, 3), (1, 400), (400, 1)]
)
def test_instances_lie_inside_an_image_of_any_size(perceiver, tote, hw):
    found = perceiver.segment(Frame(shrunk(tote, hw), "rgb", 1), score_min=0.0)
    assert len(found) > 0, "the sketch sees something everywhere, or this test proves nothing"
    h, w = hw
    x1, y1, x2, y2 = found.boxes.T
    assert ((x1 >= 0) & (y1 >= 0) & (x2 <= w) & (y2 <= h)).all()
    assert ((x2 - x1) * (y2 - y1) >= 1).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    labels = found.label_map()
    assert labels.shape == hw
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) <= set(range(len(found) + 1))
    for mask, box in zip(found.masks, found.boxes, strict=True):
        bottom, right = mask.y + mask.bits.shape[0], mask.x + mask.bits.shape[1]
        assert box[0] - 1 < mask.x
        assert box[1] - 1 < mask.y
        assert right < box[2] + 1
        assert bottom < box[3] + 1


def test_a_tote_has_instances_and_a_label_for_each(perceiver, tote):
    found = perceiver.segment(Frame(tote, "rgb", 1))
    assert len(found) >= 2
    assert found.label_map().max() <= len(found)
    assert (found.scores >= perceiver.bundle.thresholds.score_min).all()


def test_fewer_are_found_when_less_is_asked_for(perceiver, tote):
    frame = Frame(tote, "rgb", 1)
    everything = perceiver.segment(frame, score_min=0.0)
    best = perceiver.segment(frame, score_min=0.0, max_instances=2)
    np.testing.assert_array_equal(best.boxes, everything.boxes[:2])
    limit = float(everything.scores[1])
    assert len(perceiver.segment(frame, score_min=limit)) == int((everything.scores >= limit).sum())
    assert len(perceiver.segment(frame, score_min=1.0)) == int((everything.scores >= 1).sum())


@pytest.mark.parametrize("grey", [0, 127, 255])
def test_an_empty_picture_is_no_error(perceiver, grey):
    found = perceiver.segment(Frame(np.full((100, 120, 1), grey, np.uint8), "mono", 1))
    assert not found.label_map().any() or len(found)


def test_every_stage_is_timed(perceiver, tote):
    laps = Laps()
    perceiver.segment(Frame(tote, "rgb", 4711), laps=laps)
    assert set(laps.ms) == {"preprocess", "backbone", "proposals", "rois", "masks"}


def test_a_picture_of_results_can_be_drawn_at_any_size(perceiver, tote):
    for hw in [(240, 320), (16, 8), (1, 1)]:
        frame = Frame(shrunk(tote, hw), "rgb", 1)
        found = perceiver.segment(frame, score_min=0.0)
        boxes = [tuple(map(float, b)) for b in found.boxes]
        picture = overlay.draw_instances(
            overlay.to_bgr(frame), found.label_map(), boxes, ["text"] * len(boxes)
        )
        assert picture.shape == (*hw, 3)
        marked = overlay.untrained_mark(picture)
        assert marked.shape[1] == hw[1]
        assert marked.shape[0] > hw[0]


# crops


def crops(tote, n=5):
    frame = Frame(tote, "rgb", 1)
    return [Region(frame, (50.0 * i, 40.0 * i, 50.0 * i + 200, 40.0 * i + 150)) for i in range(n)]


def test_embeddings_have_unit_length_and_tell_crops_apart(perceiver, tote):
    vectors = perceiver.embed(crops(tote))
    assert vectors.shape == (5, perceiver.bundle.embedding_dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosines = vectors @ vectors.T
    assert (cosines[~np.eye(5, dtype=bool)] < 0.9999).all()


def test_probabilities_of_a_crop_sum_to_one(perceiver, tote):
    for p in perceiver.inspect(crops(tote)):
        assert set(p) == set(perceiver.bundle.defect_labels)
        assert sum(p.values()) == pytest.approx(1)
        assert min(p.values()) >= 0


def test_no_regions_are_no_work(perceiver):
    before = perceiver.backbone.runs
    assert perceiver.embed([]).shape == (0, perceiver.bundle.embedding_dim)
    assert perceiver.inspect([]) == []
    assert perceiver.backbone.runs == before


def test_identification_and_inspection_of_one_view_cost_one_run(perceiver, tote):
    view = [Region(Frame(tote, "rgb", 424242, stream="only here"))]
    before = perceiver.backbone.runs
    perceiver.embed(view)
    perceiver.inspect(view)
    assert perceiver.backbone.runs == before + 1


def test_a_region_outside_its_image_is_a_frame_error(perceiver, tote):
    with pytest.raises(FrameError, match="no area inside"):
        perceiver.embed([Region(Frame(tote, "rgb", 1), (2000, 0, 2100, 9))])


def test_two_threads_get_what_one_gets(sketch_bundle, tote):
    config = RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True)
    frames = [Frame(np.roll(tote, 37 * i, axis=1), "rgb", i + 1) for i in range(6)]

    def work(perceiver, frame):
        view = [Region(frame, (10, 10, 400, 300))]
        found = perceiver.segment(frame, score_min=0.3)
        p = perceiver.inspect(view)[0]
        return found.boxes, found.scores, perceiver.embed(view), np.array(list(p.values()))

    alone = Perceiver(config)
    want = [work(alone, f) for f in frames]
    shared = Perceiver(config)
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda f: work(shared, f), frames * 2))
    for one, other in zip(want * 2, got, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)
    assert shared.backbone.runs == 2 * len(frames) + len(frames), "each view once"


def test_warming_up_runs_both_sizes_and_the_usual_numbers_of_crops(sketch_bundle, monkeypatch):
    fresh = Perceiver(RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True))
    seen = []
    run = fresh.backbone._session.run
    monkeypatch.setattr(
        fresh.backbone._session, "run", lambda t: seen.append(t["image"].shape) or run(t)
    )
    fresh.warm_up()
    b = fresh.bundle
    assert (1, 3, *b.tote.hw) in seen
    assert (fresh.backbone.batch_max, 3, *b.crop.hw) in seen
    assert (1, 3, *b.crop.hw) in seen


def test_the_number_of_crops_in_a_run_is_the_users_or_the_providers(perceiver, sketch_bundle, tote):
    assert perceiver.backbone.batch_max == usual_batch(Place("cpu"), perceiver.bundle.crop.hw)
    config = RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True, batch_max=40)
    wide = Perceiver(config)
    wide.warm_up()  # on windows of one picture, of which it needs as many
    runs, rows = wide.backbone.runs, wide.backbone.rows
    wide.inspect(crops(tote))
    assert (wide.backbone.runs - runs, wide.backbone.rows - rows) == (1, 5)


# settings on top of the bundle's


def test_the_bundles_thresholds_hold_until_the_user_sets_others(perceiver):
    t = perceiver.bundle.thresholds
    assert perceiver.defect_thresholds(DefectConfig()) == dict(t.defects)


@pytest.mark.parametrize("limit", [0.0, 0.2, 0.999])
def test_a_defect_threshold_of_the_user_is_taken_even_if_it_is_zero(perceiver, limit):
    got = perceiver.defect_thresholds(DefectConfig(multi_pick_min=limit))
    assert got["multi_pick"] == limit
    assert got["package_defect"] == perceiver.bundle.thresholds.defects["package_defect"]


# models that break their promises


class Says:
    """A session that gives what it is told to."""

    def __init__(self, *outputs):
        self.outputs = outputs

    def run(self, tensors):
        return list(self.outputs)


def with_session(kind, perceiver, *outputs):
    machine = kind(perceiver.bundle, Place("cpu", threads=1))
    machine._session = Says(*outputs)
    return machine


def segmenter(perceiver, *outputs):
    machine = Segmenter(perceiver.bundle, Place("cpu", threads=1))
    machine._rois = Says(*outputs)
    return machine


FEATURES = Features(np.zeros((1, 32, 6, 6), np.float32), np.zeros((1, 32), np.float32))


@pytest.mark.parametrize("shape", [(1, 15), (2, 16), (16,)])
def test_an_embedding_of_another_size_is_an_error(perceiver, shape):
    with pytest.raises(InferenceError, match=r"want \(1, 16\)"):
        with_session(Embedder, perceiver, np.ones(shape, np.float32)).run(FEATURES)


def test_an_embedding_without_direction_is_an_error(perceiver):
    with pytest.raises(InferenceError, match="zero vector"):
        with_session(Embedder, perceiver, np.zeros((1, 16), np.float32)).run(FEATURES)


def test_logits_of_another_number_of_classes_are_an_error(perceiver):
    with pytest.raises(InferenceError, match=r"want \(1, 3\)"):
        with_session(Inspector, perceiver, np.ones((1, 4), np.float32)).run(FEATURES)


def test_large_logits_and_the_temperature_make_a_softmax(perceiver):
    hot = with_session(Inspector, perceiver, np.float32([[1000, 0, -1000]]))
    hot._temperature = np.float32(500)
    weights = np.exp([2.0, 0.0, -2.0])
    assert list(hot.run(FEATURES)[0].values()) == pytest.approx(list(weights / weights.sum()))


@pytest.mark.parametrize("label", [-1, 1])
def test_a_label_without_a_name_is_an_error(perceiver, label):
    outputs = (
        np.float32([[0, 0, 9, 9]]), np.float32([0.9]), np.array([label]),
        np.ones((1, 28, 28), np.float32),
    )  # fmt: skip
    machine = segmenter(perceiver, *outputs)
    with pytest.raises(InferenceError, match="the bundle names 1"):
        machine.run(
            FEATURES, Letterbox.fit((96, 96), (96, 96)),
            score_min=0.0, max_instances=9, laps=Laps(),
        )  # fmt: skip


def test_instances_come_best_first_and_those_in_the_padding_not_at_all(perceiver):
    outputs = (
        np.float32([[0, 0, 9, 9], [10, 10, 90, 20], [0, 80, 50, 95], [5, 5, 5.5, 5.5]]),
        np.float32([0.6, 0.9, 0.99, 0.95]),
        np.zeros(4, np.int64),
        np.ones((4, 28, 28), np.float32),
    )
    found = segmenter(perceiver, *outputs).run(
        FEATURES, Letterbox.fit((48, 96), (96, 96)), score_min=0.5, max_instances=9, laps=Laps()
    )
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.boxes.tolist() == [[10, 10, 90, 20], [0, 0, 9, 9]]
    assert found.labels.dtype == np.int32


def test_a_backbone_that_gives_another_grid_is_an_error(perceiver, sketch_bundle):
    config = RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True)
    backbone = Perceiver(config).backbone
    backbone._bundle = replace(backbone._bundle, patch=32)
    with pytest.raises(InferenceError, match=r"want \(1, C, 3, 3\)"):
        backbone.run(np.zeros((1, 3, 96, 96), np.float32))
