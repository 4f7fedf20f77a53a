from __future__ import annotations

import pytest

from robollm.core.config import options
from robollm.core.errors import ConfigError
from robollm.core.settings import NODE_SETTINGS, PickConfig, view_regions, view_topics

KINDS = sorted({k for kinds in NODE_SETTINGS.values() for k in kinds}, key=lambda k: k.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_the_defaults_are_allowed(kind):
    kind()


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_setting_is_declared_completely(kind):
    for o in options(kind):
        assert o.doc, o.name
        assert (o.low is None) == (o.high is None), o.name
        assert o.low is not None or not isinstance(o.default, (float, int)) or o.default in (0, 1)
        assert not isinstance(o.default, float) or o.low is not None, "NaN would be let through"


def test_no_node_has_two_settings_of_one_name():
    for kinds in NODE_SETTINGS.values():
        names = [o.name for kind in kinds for o in options(kind)]
        assert len(names) == len(set(names))


def test_a_view_is_a_name_with_a_topic_of_its_own_or_the_usual_one():
    topics = view_topics(PickConfig(views=("low", "wall=/camera2/image_raw")))
    assert topics == {"low": "views/low/image", "wall": "/camera2/image_raw"}
    assert list(topics) == ["low", "wall"]


@pytest.mark.parametrize("views", [(), ("",)])
def test_no_views_at_all_can_be_written_in_yaml(views):
    assert view_topics(PickConfig(views=views)) == {}


@pytest.mark.parametrize(
    "views",
    [
        ("low", "low"),
        ("low", "low=/other"),
        ("low view",),
        ("/low",),
        ("=topic",),
        ("2low",),
        ("pr\N{LATIN SMALL LETTER E WITH ACUTE}s",),
        ("image",),  # the tote image's own name
    ],
)
def test_a_view_needs_a_ros_name_of_its_own(views):
    with pytest.raises(ConfigError) as e:
        PickConfig(views=views)
    assert repr(views[-1]) in str(e.value)
    assert e.value.fix


def test_a_region_belongs_to_a_view():
    config = PickConfig(views=("low", "wall"), view_rois=("wall= 1, 2 ,30,40",))
    assert view_regions(config) == {"wall": (1, 2, 30, 40)}


@pytest.mark.parametrize(
    ("roi", "words"),
    [
        ("nobody=1,2,3,4", "low"),
        ("low", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=1,2,3", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=1,2,3,4,5", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=-1,2,3,4", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=1.5,2,3,4", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=1,2,3,x", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=1,2,3,\N{SUPERSCRIPT TWO}", "NAME=X,Y,WIDTH,HEIGHT"),
        ("low=1,2,0,4", "is empty"),
        ("low=1,2,3,0", "is empty"),
    ],
)
def test_a_region_that_makes_no_sense_is_shown_as_it_was_written(roi, words):
    with pytest.raises(ConfigError) as e:
        PickConfig(views=("low",), view_rois=(roi,))
    assert repr(roi) in str(e.value)
    assert words in str(e.value)
    assert e.value.fix


def test_two_regions_of_one_view_are_refused():
    with pytest.raises(ConfigError, match="two regions"):
        PickConfig(views=("low",), view_rois=("low=1,2,3,4", "low=5,6,7,8"))


def test_a_region_without_any_view_says_that_there_is_none():
    with pytest.raises(ConfigError, match=r"\(none\)"):
        PickConfig(views=("",), view_rois=("low=1,2,3,4",))
