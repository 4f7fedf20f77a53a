"""One backbone for all: its cache, its batches, and the Station that lends it."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from robollm.core.errors import InferenceError, ModelFileError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime import station as station_module
from robollm.runtime.backbone import BATCH_MAX, CACHE_MAX, SharedBackbone
from robollm.runtime.bundle import load_bundle
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.station import Station
from robollm.runtime.timing import Laps


@pytest.fixture
def config(sketch_bundle):
    return RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True)


@pytest.fixture
def backbone(sketch_bundle):
    return SharedBackbone(load_bundle(sketch_bundle, allow_untrained=True), "cpu", 1)


def regions(n, *, stamp=None, stream="low"):
    """N different pictures; with `stamp` all of one moment."""
    rng = np.random.default_rng(0)
    frames = [
        Frame(rng.integers(0, 255, (40, 50, 3), np.uint8), "rgb", stamp or i + 1, stream=stream)
        for i in range(n)
    ]
    return [Region(f) for f in frames]


# cache


def test_the_same_view_twice_is_one_run(backbone):
    (view,) = regions(1)
    first, second = backbone.crops([view], Laps()), backbone.crops([view], Laps())
    assert (backbone.runs, backbone.cache_hits) == (1, 1)
    np.testing.assert_array_equal(first.map, second.map)


def test_the_same_view_twice_in_one_call_is_encoded_once(backbone):
    view, other = regions(2)
    got = backbone.crops([view, other, view], Laps())
    assert backbone.runs == 1
    np.testing.assert_array_equal(got.cls[0], got.cls[2])
    assert not np.allclose(got.cls[0], got.cls[1])


def test_other_pixels_with_the_same_stamp_are_another_run(backbone):
    a, b = regions(2, stamp=7)
    first, second = backbone.crops([a], Laps()), backbone.crops([b], Laps())
    assert (backbone.runs, backbone.cache_hits) == (2, 0)
    assert not np.allclose(first.cls, second.cls)


def test_a_known_view_among_new_ones_keeps_its_place(backbone):
    a, b, c = regions(3)
    backbone.crops([b], Laps())
    got = backbone.crops([a, b, c], Laps())
    for i, r in enumerate((a, b, c)):
        alone = backbone.crops([r], Laps())
        np.testing.assert_array_equal(got.cls[i : i + 1], alone.cls)


def test_more_views_than_the_cache_holds_are_answered_and_the_oldest_forgotten(backbone):
    many = regions(CACHE_MAX + 6)
    got = backbone.crops(many, Laps())
    assert len(got.cls) == CACHE_MAX + 6
    before = backbone.runs
    backbone.crops(many[6:], Laps())
    assert backbone.runs == before, "the newest are known"
    backbone.crops(many[:1], Laps())
    assert backbone.runs == before + 1, "the oldest is forgotten"


# batches


@pytest.mark.parametrize("n", [1, 2, BATCH_MAX, BATCH_MAX + 1])
def test_a_batch_says_what_each_picture_says_alone(sketch_bundle, backbone, n):
    many = regions(n)
    together = backbone.crops(many, Laps())
    assert backbone.runs == -(-n // BATCH_MAX)
    alone = SharedBackbone(load_bundle(sketch_bundle, allow_untrained=True), "cpu", 1)
    for i, r in enumerate(many):
        one = alone.crops([r], Laps())
        np.testing.assert_allclose(together.map[i : i + 1], one.map, atol=1e-4)
        np.testing.assert_allclose(together.cls[i : i + 1], one.cls, atol=1e-4)


def test_any_multiple_of_the_patch_is_encoded_by_the_same_session(backbone):
    for h, w in [(96, 96), (192, 240), (16, 64), (96, 96)]:
        got = backbone.run(np.zeros((2, 3, h, w), np.float32))
        assert got.map.shape == (2, 32, h // 16, w // 16)
        assert got.cls.shape == (2, 32)


def test_a_picture_with_another_number_of_channels_is_an_inference_error(backbone):
    with pytest.raises(
        InferenceError, match=r"backbone\.onnx failed on image \(1, 4, 96, 96\)"
    ) as e:
        backbone.run(np.zeros((1, 4, 96, 96), np.float32))
    assert e.value.fix


def test_the_times_of_both_stages_are_taken(backbone):
    laps = Laps()
    backbone.crops(regions(2), laps)
    assert set(laps.ms) == {"preprocess", "backbone"}


# station


def test_users_of_one_station_share_one_perceiver(config):
    station = Station()
    first, second = station.acquire(config), station.acquire(config)
    assert first is second


def test_the_weights_are_freed_when_the_last_user_leaves_and_not_before(config):
    station = Station()
    perceiver = station.acquire(config)
    weights = weakref.ref(perceiver.backbone)
    session = weakref.ref(perceiver.backbone._session)
    del perceiver
    station.acquire(config)
    station.release(config)
    gc.collect()
    assert weights() is not None, "one user is left"
    station.release(config)
    gc.collect()
    assert weights() is None
    assert session() is None


def test_a_station_loads_again_after_all_have_left(config):
    station = Station()
    station.acquire(config)
    station.release(config)
    station.release(config)  # unmatched, ignored
    perceiver = station.acquire(config)
    assert station.acquire(config) is perceiver


def test_users_with_other_settings_get_another_perceiver(config, sketch_bundle):
    other = RuntimeConfig(bundle=str(sketch_bundle), threads=2, allow_untrained=True)
    station = Station()
    assert station.acquire(config) is not station.acquire(other)
    station.release(other)
    assert station.acquire(config) is station.acquire(config)


def test_a_bundle_that_does_not_load_leaves_no_user_behind(config, tmp_path):
    station = Station()
    bad = RuntimeConfig(bundle=str(tmp_path))
    for _ in range(2):
        with pytest.raises(ModelFileError, match=r"no bundle\.json"):
            station.acquire(bad)
    assert station.acquire(config)


def test_users_that_come_at_once_still_load_once(config, monkeypatch):
    made = []

    class Counted(Perceiver):
        def __init__(self, config):
            made.append(config)
            super().__init__(config)

    monkeypatch.setattr(station_module, "Perceiver", Counted)
    station = Station()
    with ThreadPoolExecutor(3) as pool:
        users = list(pool.map(lambda _: station.acquire(config), range(3)))
    assert len(made) == 1
    assert all(u is users[0] for u in users)
