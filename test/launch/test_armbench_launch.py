"""The launch file, executed on a stand-in of launch: what would it start, and how?"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import launched
import pytest
import yaml
from launched import describe, scripts

from robollm.core.config import Option, options, problem
from robollm.core.settings import NODE_SETTINGS
from robollm.runtime.default_bundle import NAME, find_bundle, shipped_bundles

pytestmark = pytest.mark.usefixtures("installed")

DECLARED: dict[str, Option] = {
    o.name: o for kinds in NODE_SETTINGS.values() for kind in kinds for o in options(kind)
}
STATION = {"bundle": "/data/bundle", "manifest": "/data/manifest.json"}


def overrides(node: Any) -> dict[str, object]:
    """The parameters that the arguments set, from the last parameter file."""
    if len(node.parameter_files) == 1:
        return {}
    _, file = node.parameter_files
    [(section, content)] = yaml.safe_load(file.read_text()).items()
    assert section == "/**/**"  # beats every section of the file before it
    return dict(content["ros__parameters"])


@pytest.fixture
def arguments() -> dict[str, Any]:
    """The declared arguments by name, as `--show-args` lists them."""
    with launched.stand_in():
        return {a.name: a for a in launched.description().get_launch_arguments()}


def test_every_argument_has_a_description_and_a_default(arguments: dict[str, Any]) -> None:
    assert [a.name for a in arguments.values() if not a.description] == []
    assert [a.name for a in arguments.values() if a.default_value is None] == []


def test_the_documents_list_exactly_the_arguments(arguments: dict[str, Any]) -> None:
    text = (launched.ROOT / "docs" / "launch.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(arguments)


def test_the_commands_in_the_documents_use_arguments_that_exist(
    arguments: dict[str, Any],
) -> None:
    texts = [p.read_text() for p in [*launched.ROOT.glob("*.md"), *launched.ROOT.glob("docs/*.md")]]
    texts.append(launched.LAUNCH_FILE.read_text())
    calls = [c for t in texts for c in re.findall(r"armbench\.launch\.py((?:[^\n`]|\\\n)*)", t)]
    used = {name for call in calls for name in re.findall(r"\b(\w+):=", call)}
    assert used
    assert used <= set(arguments)


def test_by_default_one_process_runs_with_the_packages_own_parameter_file() -> None:
    context = describe()
    [node] = context.nodes
    assert (node.package, node.executable, node.namespace) == ("robollm", "perception", "/robollm")
    [file] = node.parameter_files
    assert file.samefile(launched.ROOT / "config" / "armbench.yaml")
    assert context.messages == []


def test_the_three_nodes_keep_their_names() -> None:
    [node] = describe(**STATION).nodes
    assert not [word for word in node.command if "__node:=" in word or "__name:=" in word]


@pytest.mark.parametrize("bag", ["", "/data/bag"])
def test_every_executable_is_a_console_script(bag: str) -> None:
    assert {n.executable for n in describe(bag=bag, **STATION).nodes} <= set(scripts())


def test_an_argument_that_is_given_sets_a_declared_parameter_of_its_type() -> None:
    [node] = describe(
        **STATION,
        gallery="/data/gallery",
        views="['on_arm_low', 'tote_wall=/cam2/image_raw']",
        overlay="false",
    ).nodes
    given = overrides(node)
    assert given == {
        **STATION,
        "gallery": "/data/gallery",
        "views": ["on_arm_low", "tote_wall=/cam2/image_raw"],
        "overlay": False,
    }
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    assert [p for k, v in values.items() if (p := problem(DECLARED[k], v))] == []


def test_an_argument_that_is_empty_leaves_the_parameter_files_value_alone() -> None:
    [node] = describe(bundle="/data/bundle", manifest="", views="", overlay="").nodes
    assert overrides(node) == {"bundle": "/data/bundle"}


@pytest.mark.parametrize("name", ["123", "true", "1e3", "a: b", "it's"])
def test_a_path_that_looks_like_something_else_stays_a_string(name: str) -> None:
    [node] = describe(bundle=name).nodes
    assert overrides(node) == {"bundle": name}


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    [node, player] = describe(bundle="~/bundle", bag="~/bag").nodes
    assert overrides(node)["bundle"] == "/somebody/bundle"
    assert player.arguments[0] == "/somebody/bag"


@pytest.mark.parametrize("bundle", ["tote-small", "./mine", "models/mine/"])
def test_the_name_of_a_shipped_bundle_stays_a_name_and_a_path_stays_a_path(bundle: str) -> None:
    [node] = describe(bundle=bundle).nodes
    assert overrides(node) == {"bundle": bundle}


def test_without_arguments_the_nodes_run_the_bundle_that_is_shipped() -> None:
    [node] = describe().nodes
    assert overrides(node) == {}
    [file] = node.parameter_files
    values = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    assert (values["bundle"], values["allow_untrained"]) == ("", False)
    models = [launched.ROOT / "models"]
    if NAME in shipped_bundles(models):  # a checkout may be without it
        assert find_bundle(values["bundle"]) == models[0] / NAME


def test_launch_file_and_document_name_the_default_bundle(arguments: dict[str, Any]) -> None:
    assert NAME in arguments["bundle"].description
    assert NAME in (launched.ROOT / "docs" / "launch.md").read_text()


def test_no_views_are_written_as_ros_can_hold_them() -> None:
    for text in ("[]", "['']"):
        [node] = describe(views=text).nodes
        assert overrides(node) == {"views": [""]}


@pytest.mark.parametrize("text", ["on_arm_low", "[1, 2]", "{a: b}", "['open"])
def test_views_that_are_no_list_of_strings_are_refused(text: str) -> None:
    with pytest.raises(RuntimeError, match="want a list of strings"):
        describe(views=text)


@pytest.mark.parametrize("argument", [{"overlay": "maybe"}, {"log_level": "loud"}])
def test_a_value_that_is_no_choice_is_refused(argument: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match="want one of"):
        describe(**argument)


def test_a_parameter_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no such file"):
        describe(params_file="/nowhere/mine.yaml")


def test_a_misspelt_argument_is_named_with_the_nearest_one() -> None:
    context = describe(bundel="/data/bundle", veiws="['a']", color="red")
    assert len(context.messages) == 2
    assert "'bundel'; did you mean 'bundle'" in context.messages[0]
    assert "'veiws'; did you mean 'views'" in context.messages[1]


@pytest.mark.parametrize("image", ["image", "/camera/image_raw", "tote/image_raw"])
def test_both_transports_of_the_tote_camera_are_remapped(image: str) -> None:
    [node] = describe(image=image).nodes
    assert node.remappings == [("image", image), ("image/compressed", f"{image}/compressed")]


def test_a_plain_remapping_of_image_leaves_the_compressed_one_so_the_document_names_both() -> None:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
    from rclpy.context import Context

    text = (launched.ROOT / "docs" / "launch.md").read_text()
    [both] = re.findall(r"^ +(-r image:=\S+ -r image/compressed:=\S+)$", text, re.MULTILINE)

    def resolved(words: str) -> list[str]:
        context = Context()
        rclpy.init(args=["x", "--ros-args", *words.split()], context=context)
        try:
            node = rclpy.create_node("x", context=context, namespace="/robollm")
            names = [node.resolve_topic_name(name) for name in ("image", "image/compressed")]
            node.destroy_node()
        finally:
            context.try_shutdown()
        return names

    raw = "/camera/image_raw"
    assert resolved(f"-r image:={raw}") == [raw, "/robollm/image/compressed"]
    assert resolved(both) == [raw, f"{raw}/compressed"]


@pytest.mark.parametrize("namespace", ["robollm", "cell1", "/line2/cell1"])
def test_all_processes_are_in_the_namespace(namespace: str) -> None:
    nodes = describe(namespace=namespace, bag="/data/bag").nodes
    assert {n.namespace for n in nodes} == {f"/{namespace.lstrip('/')}"}


def test_a_recording_is_played_at_its_rate_and_the_nodes_run_on_its_time() -> None:
    [perception, player] = describe(bag="/data/bag", rate="2.5", **STATION).nodes
    assert player.executable == "bag_player"
    assert player.arguments[:3] == ["/data/bag", "--rate", "2.5"]
    assert overrides(perception) == {**STATION, "use_sim_time": True}
    assert player.parameter_files == []


def test_the_players_arguments_are_ones_that_it_takes() -> None:
    from robollm.nodes import bag_player

    [_, player] = describe(bag="/data/bag", rate="2.5").nodes
    options = bag_player._parser().parse_args(player.arguments)
    assert (options.bag, options.rate, options.wait) == ("/data/bag", 2.5, 60.0)
    assert options.topics is None


def test_topics_of_a_recording_can_be_named() -> None:
    from robollm.nodes import bag_player

    [_, player] = describe(bag="/data/bag", topics="['/robollm/pick', '/it is/mine']").nodes
    options = bag_player._parser().parse_args(player.arguments)
    assert (options.bag, options.topics) == ("/data/bag", ["/robollm/pick", "/it is/mine"])


@pytest.mark.parametrize("text", ["[]", "/robollm/pick", "[1]", "['']", "['--loop']"])
def test_topics_that_are_no_list_of_names_are_refused(text: str) -> None:
    with pytest.raises(RuntimeError, match="want a list of topics"):
        describe(bag="/data/bag", topics=text)


def test_topics_without_a_recording_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"topics:=.*needs bag:="):
        describe(topics="['/robollm/pick']")


def test_large_messages_have_their_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    for node in describe(bag="/data/bag").nodes:
        assert node.environment["FASTDDS_BUILTIN_TRANSPORTS"] == "LARGE_DATA"


def test_a_transport_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    [node] = describe().nodes
    assert node.environment["FASTDDS_BUILTIN_TRANSPORTS"] == "UDPv4"


def test_the_log_level_reaches_every_process() -> None:
    for node in describe(log_level="warn", bag="/data/bag").nodes:
        at = node.command.index("--log-level")
        assert node.command[at + 1] == "warn"


def test_the_nodes_get_the_time_that_they_give_a_model_run_to_end() -> None:
    from robollm.nodes.base import STOP_S

    [node] = describe().nodes
    assert node.sigterm_timeout > STOP_S


@pytest.mark.parametrize("name", ["armbench.yaml", "demo.yaml"])
def test_a_parameter_file_names_only_declared_parameters_of_their_type(name: str) -> None:
    wrong: list[str] = []
    for section, content in yaml.safe_load((launched.ROOT / "config" / name).read_text()).items():
        node = Path(section).name
        kinds = NODE_SETTINGS.get(node)
        assert kinds or section == "/**", section
        mine = {o.name: o for kind in kinds for o in options(kind)} if kinds else DECLARED
        for key, value in content["ros__parameters"].items():
            if key == "use_sim_time":
                assert value is True
                continue
            assert key in mine, f"{name}, {section}: {key}"
            plain = tuple(value) if isinstance(value, list) else value
            if bad := problem(mine[key], plain):
                wrong.append(bad)
    assert wrong == []


def test_the_stand_in_leaves_no_module_behind() -> None:
    before = {m for m in sys.modules if m.partition(".")[0] in ("launch", "launch_ros")}
    describe()
    assert {m for m in sys.modules if m.partition(".")[0] in ("launch", "launch_ros")} == before
    assert str(launched.STAND_IN) not in sys.path
