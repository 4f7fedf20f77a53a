"""The Station that lends one backbone to all nodes of a process."""

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
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.station import Station


@pytest.fixture
def config(sketch_bundle):
    return RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True)


def test_users_of_one_station_share_one_perceiver(config):
    station = Station()
    first, second = station.acquire(config), station.acquire(config)
    assert first is second


@pytest.fixture
def no_collector():
    """What is freed is freed because nothing refers to it any more."""
    gc.disable()
    yield
    gc.enable()


def test_the_weights_are_freed_when_the_last_user_leaves_and_not_before(config, no_collector):
    station = Station()
    perceiver = station.acquire(config)
    weights = weakref.ref(perceiver.backbone)
    session = weakref.ref(perceiver.backbone._session)
    del perceiver
    station.acquire(config)
    station.release(config)
    assert weights() is not None, "one user is left"
    station.release(config)
    assert weights() is None
    assert session() is None


def test_models_that_were_freed_refuse_work(config):
    station = Station()
    kept = station.acquire(config)
    station.acquire(config)
    station.release(config)
    view = [Region(Frame(np.zeros((9, 9, 3), np.uint8), "rgb", 1))]
    kept.inspect(view)
    station.release(config)
    with pytest.raises(InferenceError, match="closed"):
        kept.inspect([Region(view[0].frame, (0, 0, 5, 5))])


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
