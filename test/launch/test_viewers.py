"""The layouts for RViz 2 and Foxglove: they can be read, and show topics that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from launched import ROOT

from robollm.core.settings import PickConfig, view_topics

VIEWS = view_topics(PickConfig()).values()
IMAGES = {"image", "masks", *VIEWS}
OURS = {
    *IMAGES,
    *(f"{name}/compressed" for name in ("image", "overlay", *VIEWS)),
    *("container", "pick", "detections", "label_info", "identifications"),
    *("pick_identifications", "defects", "defects/views"),
}
TOPICS = {f"/robollm/{name}" for name in OURS} | {"/diagnostics", "/rosout"}


def leaves(value: Any) -> Iterator[tuple[str, object]]:
    """Every (key, value) in a tree whose value is no container."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        if isinstance(item, (dict, list)):
            yield from leaves(item)
        else:
            yield str(key), item


@pytest.fixture
def rviz() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "config" / "robollm.rviz").read_text()))


@pytest.fixture
def foxglove() -> dict[str, Any]:
    return dict(json.loads((ROOT / "config" / "foxglove.json").read_text()))


def test_rviz_shows_the_tote_the_instances_and_every_view(rviz: dict[str, Any]) -> None:
    displays = rviz["Visualization Manager"]["Displays"]
    assert {d["Class"] for d in displays} == {"rviz_default_plugins/Image"}
    shown = {d["Topic"]["Value"] for d in displays if d["Enabled"]}
    assert {"/robollm/image", "/robollm/overlay/compressed"} <= shown <= TOPICS
    plain = {t.removesuffix("/compressed") for t in shown}
    assert {f"/robollm/{v}" for v in VIEWS} <= plain


def test_rviz_names_no_topic_that_is_not_ours(rviz: dict[str, Any]) -> None:
    named = {v for _, v in leaves(rviz) if isinstance(v, str) and v.startswith("/")}
    assert named <= TOPICS


def test_rviz_subscribes_as_the_images_are_published(rviz: dict[str, Any]) -> None:
    for display in rviz["Visualization Manager"]["Displays"]:
        assert display["Topic"]["Durability Policy"] == "Volatile"
        assert display["Topic"]["Reliability Policy"] == "Reliable"  # 0 of 90 images otherwise


def test_foxglove_shows_what_a_cell_is_watched_by(foxglove: dict[str, Any]) -> None:
    panels = foxglove["configById"]
    images = {c["imageMode"]["imageTopic"] for p, c in panels.items() if p.startswith("Image!")}
    assert "/robollm/overlay/compressed" in images
    assert {f"/robollm/{v}" for v in VIEWS} <= {t.removesuffix("/compressed") for t in images}
    raw = {c["topicPath"] for p, c in panels.items() if p.startswith("RawMessages!")}
    assert raw == {"/robollm/defects", "/robollm/pick_identifications"}
    assert {p.partition("!")[0] for p in panels} >= {"DiagnosticSummary", "RosOut"}


def test_foxglove_names_no_topic_that_is_not_ours(foxglove: dict[str, Any]) -> None:
    named = {v for _, v in leaves(foxglove) if isinstance(v, str) and v.startswith("/")}
    assert named <= TOPICS


def test_foxglove_places_every_panel_once(foxglove: dict[str, Any]) -> None:
    placed = [v for k, v in leaves(foxglove["layout"]) if k in ("first", "second")]
    assert sorted(placed) == sorted(foxglove["configById"])
