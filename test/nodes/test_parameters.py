"""Parameters as people write them: an empty list, a misspelt QoS override."""

from __future__ import annotations

import pytest
import rclpy

from robollm.core.settings import NODE_SETTINGS, PickConfig
from robollm.nodes import params

KINDS = NODE_SETTINGS["defect_node"]


@pytest.fixture
def node_with(tmp_path):
    """A bare node whose parameter file has these lines."""
    context, made = rclpy.Context(), []

    def make(*lines):
        file = tmp_path / "params.yaml"
        text = "".join(f"    {line}\n" for line in lines)
        file.write_text(f"/**:\n  ros__parameters:\n{text}")
        rclpy.init(args=["x", "--ros-args", "--params-file", str(file)], context=context)
        made.append(rclpy.create_node("defect_node", context=context, namespace="cell"))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("name", ["views", "view_rois"])
def test_an_empty_list_in_yaml_means_none(node_with, name):
    node = node_with(f"{name}: []")
    assert params.declare(node, KINDS) == []
    assert node.get_parameter(name).value == [""]
    assert getattr(params.read(node, PickConfig), name) == ("",)


@pytest.mark.parametrize("name", ["min_views", "bundle", "view_timeout_s", "autostart"])
def test_an_empty_list_for_another_setting_is_told_in_words(node_with, name):
    node = node_with(f"{name}: []")
    (wrong,) = params.declare(node, KINDS)
    assert wrong.startswith(f"{name}: wants ")
    assert "an empty list" in wrong


def test_a_change_is_checked_against_the_defaults_of_what_has_no_value(node_with):
    node = node_with("views: []")  # and nothing is declared
    for region, fine in (("tote_wall=1,2,3,4", True), ("nowhere=1,2,3,4", False)):
        change = rclpy.Parameter("view_rois", value=[region])
        assert params.refuse_bad(node, KINDS, [change]).successful == fine
