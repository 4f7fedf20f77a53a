"""Which topics of a whole cell's recording are played: no ROS, but for the last test."""

from __future__ import annotations

import pytest
from cell import NODES

from robollm.core.errors import BagError
from robollm.core.settings import NODE_SETTINGS
from robollm.data.bag import Topic
from robollm.nodes.play_choice import EVERYBODYS, PUBLISHED, choose

IMAGE, PICK = "sensor_msgs/msg/Image", "vision_msgs/msg/Detection2D"
FOUND = "vision_msgs/msg/Detection2DArray"
INPUTS = {
    "image": IMAGE, "container": "std_msgs/msg/String", "pick": PICK, "manifest":
    "std_msgs/msg/String", "views/on_arm_low/image": IMAGE,
}  # fmt: skip


def recording(home="/robollm", more=()):
    """All that a cell publishes."""
    topics = [Topic(f"{home}/{name}", kind, 3) for name, kind in INPUTS.items()]
    topics += [Topic(f"{home}/{name}", FOUND, 3) for name in PUBLISHED]
    topics += [Topic(name, "any_msgs/msg/Any", 3) for name in ("/clock", "/tf", *EVERYBODYS)]
    return [*topics, *more]


def chosen(topics, named=None, *, namespace="/", remap=(), missing=()):
    def check(kind):
        if kind in missing:
            raise BagError(f"message type {kind} is not installed", fix="apt install it")

    return choose(
        topics, named, namespace=namespace, resolve=lambda n: dict(remap).get(n, n), check=check
    )


@pytest.mark.parametrize("home", ["/robollm", "/line2/cell1", ""])
@pytest.mark.parametrize("namespace", ["/", "/robollm"])
def test_of_a_whole_cell_only_what_perception_does_not_say_is_played(home, namespace):
    choice = chosen(recording(home), namespace=namespace)
    assert set(choice.names) == {f"{home}/{name}" for name in INPUTS} | {"/tf"}
    ours = {f"{home}/{name}" for name in PUBLISHED}
    assert choice.skipped.keys() == ours | {"/clock", *EVERYBODYS}


def test_what_is_skipped_is_said_with_the_reason_and_the_way_out():
    said = chosen(recording()).words().splitlines()
    assert len(said) == 4
    assert said[0].startswith("not played: /clock: ")
    assert "/robollm/defects, /robollm/defects/views" in said[2]
    assert "/diagnostics, /parameter_events, /rosout: every node" in said[1]
    assert "--topics" in said[3]
    assert chosen([Topic("/a", IMAGE, 1)]).words() == ""


def test_what_is_named_is_played_and_nothing_else_but_never_the_clock():
    choice = chosen(recording(), ["/robollm/defects", "/rosout", "/clock"])
    assert choice.names == ("/robollm/defects", "/rosout")
    assert choice.skipped.keys() == {"/clock"}
    with pytest.raises(BagError, match=r"no topic is left to play\nnot played: /clock"):
        chosen(recording(), ["/clock"])


def test_another_robots_topics_of_the_same_names_are_played():
    others = [Topic("/yolo/detections", FOUND, 3), Topic("/left/masks", IMAGE, 3)]
    assert {"/yolo/detections", "/left/masks"} <= set(chosen(recording(more=others)).names)


def test_recorded_verdicts_can_be_played_under_another_name():
    remap = {"/robollm/defects": "/before/defects", "/rosout": "/before/rosout"}
    for namespace in ("/", "/robollm"):
        names = chosen(recording(), namespace=namespace, remap=remap.items()).names
        assert set(remap) <= set(names)


def test_no_remapping_leads_a_recorded_verdict_to_where_new_ones_are_published():
    onto = {"/old/verdicts": "/cell1/defects"}
    recorded = recording(more=[Topic("/old/verdicts", FOUND, 3)])
    assert "/old/verdicts" in chosen(recorded, remap=onto.items(), namespace="/cell1").skipped
    # The nodes were remapped when it was recorded, and are again, as the player is.
    moved = [Topic("/verdicts", FOUND, 3), *recording()]
    shared = {"/robollm/defects": "/verdicts"}
    assert "/verdicts" in chosen(moved, remap=shared.items(), namespace="/robollm").skipped


def test_one_type_that_is_not_installed_does_not_refuse_the_recording():
    scale = Topic("/scale", "shop_msgs/msg/Scale", 9)
    choice = chosen(recording(more=[scale]), missing=[scale.type])
    assert "/robollm/image" in choice.names
    assert "shop_msgs/msg/Scale is not installed\n  fix: apt install it" in choice.words()
    with pytest.raises(BagError, match="is not installed"):  # it was asked for
        chosen(recording(more=[scale]), ["/robollm/image", "/scale"], missing=[scale.type])
    with pytest.raises(BagError, match="is not installed"):  # nothing else is there
        chosen([scale], missing=[scale.type])


def test_a_topic_without_messages_is_not_waited_for():
    empty = Topic("/robollm/manifest2", IMAGE, 0)
    assert "/robollm/manifest2" not in chosen(recording(more=[empty])).names


def test_the_list_of_what_perception_publishes_is_what_its_nodes_publish(cell):
    published = set()
    for node in NODES:
        for name, _ in cell.node.get_publisher_names_and_types_by_node(node, cell.namespace):
            if name.startswith(f"{cell.namespace}/"):
                published.add(name.removeprefix(f"{cell.namespace}/"))
            else:
                assert name in EVERYBODYS
    assert published == set(PUBLISHED)
    assert set(NODES) == set(NODE_SETTINGS)
