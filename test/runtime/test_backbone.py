"""One backbone for all: what it remembers, its adapters and its batches."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest

from robollm.core.errors import ConfigError, InferenceError, ModelFileError
from robollm.core.frame import Frame
from robollm.export.beit3_graph import EncoderShape, build_backbone
from robollm.export.sketch_weights import encoder_weights
from robollm.export.variants import to_int8_dynamic
from robollm.runtime.backbone import CACHE_MAX, TOTES_MAX, SharedBackbone, usual_batch
from robollm.runtime.batching import Batcher
from robollm.runtime.bundle import REFERENCE, load_bundle
from robollm.runtime.pixels import Region, to_canvas
from robollm.runtime.session import Place
from robollm.runtime.timing import Laps

PLACE = Place("cpu", threads=1)
BATCH_MAX = 16
ADAPTERS = ("identification", "defects")
LONG = 30.0  # seconds that no test waits for


@pytest.fixture
def bundle(sketch_bundle):
    return load_bundle(sketch_bundle, allow_untrained=True)


@pytest.fixture
def backbone(bundle):
    return SharedBackbone(bundle, PLACE, batch_max=BATCH_MAX)


class Slow:
    """A session that waits until the test lets it go; it may then fail."""

    def __init__(self, session):
        self.session = session
        self.begun, self.go = threading.Event(), threading.Event()
        self.error = None

    def run(self, feed):
        self.begun.set()
        assert self.go.wait(LONG)
        error, self.error = self.error, None
        if error:
            raise error
        return self.session.run(feed)


@pytest.fixture
def slow(backbone):
    backbone._session = Slow(backbone._session)
    return backbone._session


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def regions(n, *, stamp=None, stream="low"):
    """N different pictures; with `stamp` all of one moment."""
    rng = np.random.default_rng(0)
    frames = [
        Frame(rng.integers(0, 255, (40, 50, 3), np.uint8), "rgb", stamp or i + 1, stream=stream)
        for i in range(n)
    ]
    return [Region(f) for f in frames]


# what is remembered


def test_the_same_view_twice_is_one_run(backbone):
    (view,) = regions(1)
    first = backbone.crops([view], Laps(), "identification")
    second = backbone.crops([view], Laps(), "defects")
    assert (backbone.runs, backbone.rows, backbone.cache_hits) == (1, 1, 1)
    np.testing.assert_array_equal(first.map, second.map)


def test_the_same_view_twice_in_one_call_is_encoded_once(backbone):
    view, other = regions(2)
    got = backbone.crops([view, other, view], Laps(), "defects")
    assert (backbone.runs, backbone.rows) == (1, 2)
    np.testing.assert_array_equal(got.cls[0], got.cls[2])
    assert not np.allclose(got.cls[0], got.cls[1])


def test_other_pixels_with_the_same_stamp_are_another_run(backbone):
    a, b = regions(2, stamp=7)
    first, second = (backbone.crops([r], Laps(), "defects") for r in (a, b))
    assert (backbone.runs, backbone.cache_hits) == (2, 0)
    assert not np.allclose(first.cls, second.cls)


def test_a_known_view_among_new_ones_keeps_its_place(backbone):
    a, b, c = regions(3)
    backbone.crops([b], Laps(), "defects")
    got = backbone.crops([a, b, c], Laps(), "defects")
    for i, r in enumerate((a, b, c)):
        alone = backbone.crops([r], Laps(), "defects")
        np.testing.assert_array_equal(got.cls[i : i + 1], alone.cls)


def test_more_views_than_are_remembered_are_answered_and_the_oldest_forgotten(backbone):
    many = regions(CACHE_MAX + 6)
    got = backbone.crops(many, Laps(), "defects")
    assert len(got.cls) == CACHE_MAX + 6
    before = backbone.rows
    backbone.crops(many[6:], Laps(), "defects")
    assert backbone.rows == before, "the newest are known"
    backbone.crops(many[:1], Laps(), "defects")
    assert backbone.rows == before + 1, "the oldest is forgotten"


def test_what_is_remembered_of_a_batch_does_not_keep_the_batch(backbone):
    backbone.crops(regions(3), Laps(), "defects")
    for f in backbone._crops._known.values():
        assert f.map.base is None
        assert f.cls.base is None


def test_two_nodes_that_ask_for_one_view_at_once_run_it_once(backbone, slow, pool):
    a, b = regions(2)
    first = pool.submit(backbone.crops, [a], Laps(), "identification")
    assert slow.begun.wait(LONG)
    second = pool.submit(backbone.crops, [a, b], Laps(), "defects")
    slow.go.set()
    np.testing.assert_array_equal(first.result(LONG).cls[0], second.result(LONG).cls[0])
    assert (backbone.rows, backbone.cache_hits) == (2, 1)


def test_a_failed_run_is_not_remembered(backbone, slow, pool):
    (view,) = regions(1)
    slow.error = InferenceError("no memory")
    first = pool.submit(backbone.crops, [view], Laps(), "defects")
    assert slow.begun.wait(LONG)
    second = pool.submit(backbone.crops, [view], Laps(), "defects")
    slow.go.set()
    with pytest.raises(InferenceError, match="no memory"):
        first.result(LONG)
    assert second.result(LONG).cls.shape == (1, 32)


def test_a_tote_is_encoded_once_and_the_last_few_are_remembered(backbone, bundle):
    frames = [r.frame for r in regions(TOTES_MAX + 1)]
    image, box = to_canvas(frames[0].pixels, "rgb", bundle.tote, bundle)
    want = backbone.run(image[None])
    laps = Laps()
    features, letterbox = backbone.tote(frames[0], laps)
    assert set(laps.ms) == {"preprocess", "backbone"}
    assert letterbox == box
    np.testing.assert_array_equal(features.map, want.map)
    assert backbone.tote(frames[0], laps)[0] is features
    assert (backbone.rows, backbone.cache_hits) == (2, 1)
    for f in frames[1:]:
        backbone.tote(f, laps)
    assert backbone.rows == TOTES_MAX + 2
    backbone.tote(frames[1], laps)
    assert backbone.rows == TOTES_MAX + 2, "known"
    backbone.tote(frames[0], laps)
    assert backbone.rows == TOTES_MAX + 3, "forgotten"


# adapters


@pytest.fixture(scope="session")
def adapted_graph(tmp_path_factory):
    """A backbone with adapters of two tasks, after the sketch's own shape."""
    shape = EncoderShape(32, 2, 128, 16, 14, 2)
    rng = np.random.default_rng(0)
    weights = encoder_weights(rng, shape)
    for block in range(2):
        for task in ADAPTERS:
            for half in ("extractor", "enhancer"):
                name = f"blocks.{block}.adapters.{task}.{half}"
                for layer, (rows, columns) in (("down", (4, 32)), ("up", (32, 4))):
                    drawn = rng.normal(0, 0.5, (rows, columns)).astype(np.float32)
                    weights[f"{name}.{layer}.weight"] = drawn
                    weights[f"{name}.{layer}.bias"] = np.zeros(rows, np.float32)
    model = build_backbone(weights, heads=2, adapters=ADAPTERS, alphas=dict.fromkeys(ADAPTERS, 1.0))
    path = tmp_path_factory.mktemp("adapters") / "backbone.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def with_backbone(bundle, path, adapters):
    fp32 = bundle.variants[REFERENCE]
    fp32 = replace(fp32, graphs={**fp32.graphs, "backbone": path})
    return replace(bundle, variants={REFERENCE: fp32}, adapters=adapters)


@pytest.fixture
def adapted(bundle, adapted_graph):
    card = with_backbone(bundle, adapted_graph, ADAPTERS)
    return SharedBackbone(card, PLACE, batch_max=BATCH_MAX, batch_window_ms=1e3 * LONG)


def test_tasks_with_adapters_have_features_of_their_own(bundle, adapted_graph):
    adapted = SharedBackbone(with_backbone(bundle, adapted_graph, ADAPTERS), PLACE)
    view = regions(1)
    tasks = ("identification", "defects", "segmentation")
    first = [adapted.crops(view, Laps(), t).cls for t in tasks]
    again = [adapted.crops(view, Laps(), t).cls for t in tasks]
    assert (adapted.rows, adapted.cache_hits) == (3, 3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(first[i], first[j], atol=1e-3)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_of_several_tasks_share_a_run_and_get_their_own_adapters(adapted, pool):
    images = np.random.default_rng(0).normal(size=(8, 3, 96, 96)).astype(np.float32)
    tasks = ("identification", "defects", "segmentation")
    jobs = [pool.submit(adapted.run, images[:n], t) for n, t in zip((8, 4, 4), tasks, strict=True)]
    got = [j.result(LONG) for j in jobs]
    assert (adapted.runs, adapted.rows, adapted.shared_runs) == (1, 16, 1)
    adapted._batcher = Batcher(adapted._run)
    for f, task in zip(got, tasks, strict=True):
        alone = adapted.run(images[: len(f.cls)], task)
        np.testing.assert_allclose(f.map, alone.map, atol=1e-4)
        np.testing.assert_allclose(f.cls, alone.cls, atol=1e-4)


def test_adapters_that_the_graph_can_not_switch_on_are_an_error(bundle):
    with pytest.raises(ModelFileError, match="no input 'task'") as e:
        SharedBackbone(replace(bundle, adapters=ADAPTERS), PLACE)
    assert e.value.fix


# batches


@pytest.mark.parametrize("n", [1, 2, BATCH_MAX, BATCH_MAX + 1])
def test_a_batch_says_what_each_picture_says_alone(backbone, bundle, n):
    many = regions(n)
    together = backbone.crops(many, Laps(), "defects")
    assert (backbone.runs, backbone.rows) == (-(-n // BATCH_MAX), n)
    alone = SharedBackbone(bundle, PLACE, batch_max=1)
    separate = alone.crops(many, Laps(), "defects")
    assert alone.runs == n
    np.testing.assert_allclose(together.map, separate.map, atol=1e-4)
    np.testing.assert_allclose(together.cls, separate.cls, atol=1e-4)


@pytest.mark.parametrize(
    ("hw", "runs"),
    [((96, 96), 1), ((48, 48), 1), ((192, 240), 4), ((400, 400), 12)],
    ids=["crops", "smaller", "totes", "larger than 16 crops"],
)
def test_a_run_has_no_more_pixels_than_16_crops_or_one_picture(backbone, hw, runs):
    got = backbone.run(np.zeros((12, 3, *hw), np.float32))
    assert got.cls.shape == (12, 32)
    assert (backbone.runs, backbone.rows) == (runs, 12)


def test_any_multiple_of_the_patch_is_encoded_by_the_same_session(backbone):
    for h, w in [(96, 96), (192, 240), (16, 64), (96, 96)]:
        got = backbone.run(np.zeros((2, 3, h, w), np.float32))
        assert got.map.shape == (2, 32, h // 16, w // 16)
        assert got.cls.shape == (2, 32)


def test_on_the_processor_an_int8_answer_does_not_depend_on_its_company(bundle, tmp_path):
    path = tmp_path / "backbone.onnx"
    path.write_bytes(to_int8_dynamic(onnx.load(bundle.graphs["backbone"])).SerializeToString())
    fp32 = bundle.variants[REFERENCE]
    int8 = replace(fp32, name="int8", graphs={**fp32.graphs, "backbone": path})
    card = replace(bundle, variants={REFERENCE: fp32, "int8": int8})
    images = np.random.default_rng(0).normal(size=(3, 3, 96, 96)).astype(np.float32)
    images *= np.float32([0.5, 1, 3])[:, None, None, None]
    backbone = SharedBackbone(card, Place("cpu", "int8", threads=1))
    together = backbone.run(images).cls
    for i in range(3):  # its numbers are scaled by the largest one in the run
        np.testing.assert_array_equal(backbone.run(images[i : i + 1]).cls[0], together[i])


def test_a_picture_that_makes_the_model_fail_fails_nobody_who_shared_its_run(backbone, slow, pool):
    good = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    first = pool.submit(backbone.run, good[:1])
    assert slow.begun.wait(LONG)
    jobs = []
    for images in (good[:1], np.full_like(good[:1], np.nan), good[1:]):
        jobs.append(pool.submit(backbone.run, images))
        while backbone._batcher.waiting != len(jobs) + 1:
            time.sleep(0)
    slow.go.set()
    with pytest.raises(InferenceError, match="NaN or infinity in map"):
        jobs[1].result(LONG)
    np.testing.assert_array_equal(jobs[0].result(LONG).cls, first.result(LONG).cls)
    np.testing.assert_array_equal(jobs[2].result(LONG).cls, backbone.run(good[1:]).cls)
    assert (backbone.runs, backbone.rows, backbone.shared_runs) == (6, 8, 0)


def test_a_variant_without_a_backbone_of_its_own_does_not_claim_its_precision(bundle):
    card = replace(bundle, variants={**bundle.variants, "int8": bundle.variants[REFERENCE]})
    assert SharedBackbone(card, Place("cpu", "int8", threads=1)).where.endswith("(CPU, fp32)")


def test_a_later_run_does_not_touch_earlier_answers(backbone):
    first = backbone.run(np.zeros((2, 3, 96, 96), np.float32))
    before = first.map.copy()
    backbone.run(np.ones((2, 3, 96, 96), np.float32))
    np.testing.assert_array_equal(first.map, before)


def test_a_picture_with_another_number_of_channels_is_an_inference_error(backbone):
    with pytest.raises(
        InferenceError, match=r"backbone\.onnx failed on image \(1, 4, 96, 96\)"
    ) as e:
        backbone.run(np.zeros((1, 4, 96, 96), np.float32))
    assert e.value.fix


def test_a_batch_of_nothing_is_refused(bundle):
    with pytest.raises(ConfigError, match="batch_max is -1"):
        SharedBackbone(bundle, PLACE, batch_max=-1)


def test_the_times_of_both_stages_are_taken(backbone):
    laps = Laps()
    backbone.crops(regions(2), laps, "defects")
    assert set(laps.ms) == {"preprocess", "backbone"}


def test_a_closed_backbone_refuses_work(backbone):
    backbone.close()
    with pytest.raises(InferenceError, match="closed"):
        backbone.crops(regions(1), Laps(), "defects")


@pytest.mark.parametrize(
    ("provider", "precision", "side", "want"),
    [
        ("cpu", "fp32", 224, 1),
        ("cpu", "fp32", 64, 12),
        ("cpu", "int8-static", 64, 12),
        ("cpu", "int8", 64, 1),
        ("cpu", "fp32", 32, 16),
        ("openvino", "bf16", 384, 4),
        ("cuda", "fp16", 384, 16),
    ],
)
def test_small_crops_share_a_run_unless_their_answers_would_depend_on_it(
    provider, precision, side, want
):
    assert usual_batch(Place(provider, precision), (side, side)) == want
