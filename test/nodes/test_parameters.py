"""Parameters as people write them: an empty list, a misspelt QoS override."""

from __future__ import annotations

import pytest
import rclpy
from cell import NODES
from rcl_interfaces.srv import ListParameters

from robollm.core.settings import NODE_SETTINGS, PickConfig
from robollm.nodes import params, qos_overrides

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


def overrides(*lines):
    return ("qos_overrides:", *(f"  {line}" for line in lines))


def test_a_qos_override_with_a_misspelt_policy_is_refused_with_the_near_one(node_with):
    node = node_with(*overrides("/cell/defects:", "  publisher:", "    dept: 5"))
    (wrong,) = params.declare(node, KINDS)
    assert "'qos_overrides./cell/defects.publisher.dept'" in wrong
    assert "did you mean 'qos_overrides./cell/defects.publisher.depth'?" in wrong


@pytest.mark.parametrize("topic", ["/cell/defect", "/defects"])
def test_a_qos_override_of_another_topic_is_refused_with_the_near_one(node_with, topic):
    node = node_with(*overrides(f"{topic}:", "  publisher:", "    depth: 5"))
    (wrong,) = params.declare(node, KINDS)
    assert "did you mean 'qos_overrides./cell/defects.publisher.depth'?" in wrong


def test_the_reliability_of_images_is_no_qos_override(node_with):
    node = node_with(*overrides("/cell/image:", "  subscription:", "    reliability: best_effort"))
    (wrong,) = params.declare(node, KINDS)
    assert "has no setting 'qos_overrides./cell/image.subscription.reliability'" in wrong


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("depth: five", "wants a whole number > 0, got 'five'"),
        ("depth: -1", "wants a whole number > 0, got -1"),
        ("reliability: certain", "'certain' is not one of "),
    ],
)
def test_a_qos_override_with_a_bad_value_is_told_and_does_not_end_the_process(
    node_with, line, says
):
    node = node_with(*overrides("/cell/defects:", "  publisher:", f"    {line}"))
    (wrong,) = params.declare(node, KINDS)
    assert says in wrong
    assert not [k for k in node._parameter_overrides if k.startswith("qos_overrides.")]


def test_qos_overrides_of_all_our_nodes_and_of_ros_itself_are_taken_by_each_node(node_with):
    node = node_with(
        "views: [left, right=/far/image]",
        *overrides(
            "/cell/detections:", "  publisher:", "    depth: 5",
            "/cell/views/left/image/compressed:", "  subscription:", "    depth: 9",
            "/far/image:", "  subscription:", "    history: keep_last",
            "/clock:", "  subscription:", "    depth: 1",
        ),
    )  # fmt: skip
    assert params.declare(node, KINDS) == []


def test_the_known_qos_overrides_are_those_that_the_nodes_declare(cell):
    declared = set()
    for name in NODES:
        answer = cell.call(ListParameters, f"{name}/list_parameters", ListParameters.Request())
        declared |= {n for n in answer.result.names if n.startswith(qos_overrides.PREFIX)}
    ours = {n for n in declared if n.split(".")[1].startswith(cell.namespace)}
    assert ours == set(qos_overrides.known(cell.node))
