"""Sections of parameter files that reach no node, and files that ROS refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import rclpy
from cell import NODES

from robollm.core.errors import ConfigError
from robollm.nodes import param_files
from robollm.nodes.param_files import Section

HERE = {f"/cell/{name}": name for name in NODES}
PATTERNS = """
/** /* /**/** /**/* /cell/* /cell/** /a/** /*/defect_node /**/defect_node /*/*/defect_node
defect_node /defect_node /cell/defect_node cell/defect_node /a/b/defect_node /a/*/defect_node
/cell /**/b/* /defect_nod /**/defect_nod /**/fect_node /cell/defect_node/x
""".split()


def write(folder, text):
    file = folder / "params.yaml"
    file.write_text(text)
    return file


def section(name, *keys):
    return Section("p.yaml", name, keys or ("min_views",))


def astray(*found, nodes=HERE):
    return param_files.astray(found, nodes)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_section_reaches_the_nodes_that_ros_gives_it_to(tmp_path, pattern):
    file = write(tmp_path, f"{pattern}:\n  ros__parameters:\n    min_views: 2\n")
    context = rclpy.Context()
    rclpy.init(args=["x", "--ros-args", "--params-file", str(file)], context=context)
    for space in ("", "cell", "a/b"):
        node = rclpy.create_node(
            "defect_node", namespace=space, context=context, start_parameter_services=False
        )
        full = node.get_fully_qualified_name()
        got = "min_views" in node._parameter_overrides
        node.destroy_node()
        (found,) = param_files.sections(file)
        assert param_files.matches(found.name, full) == got, full
    rclpy.shutdown(context=context)


def test_a_namespace_may_be_a_level_of_its_own(tmp_path):
    file = write(
        tmp_path, "cell:\n  defect_node:\n    ros__parameters:\n      a.b: 1\n      min_views: 2\n"
    )
    assert param_files.sections(file) == [
        Section(str(file), "/cell/defect_node", ("a", "min_views"))
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("/**/defect_nod", "/**/defect_node"),
        ("/defect_nod", "/**/defect_node"),
        ("/cell/defects_node", "/cell/defect_node"),
        ("/cell2/defects_node", "/cell2/defect_node"),
        ("/**/segmentation_nodes", "/**/segmentation_node"),
        ("/defect_node", "/**/defect_node"),  # it is in a namespace
        ("/*/*/defect_node", "/**/defect_node"),
        ("/*", "/**"),
    ],
)
def test_a_section_that_can_only_be_meant_for_us_is_refused_with_the_near_name(name, meant):
    found = astray(section(name))
    (text,) = found.refused
    assert found.doubtful == []
    assert f"section '{name}' with min_views reaches no node" in text
    assert "/cell/defect_node" in text
    assert f"fix: did you mean '{meant}'?" in text


def test_a_far_name_is_refused_if_all_its_settings_are_ours():
    assert len(astray(section("/**/inspection", "min_views", "use_sim_time")).refused) == 1


@pytest.mark.parametrize(
    "found",
    [
        section("/**/camera_driver", "fps", "exposure"),
        section("/**/camera_driver", "use_sim_time"),
        section("/**/lifecycle_manager", "autostart", "node_names"),
        section("/**/lifecycle_manager", "autostart"),
        section("/**/detector", "threads", "model"),
        section("/**"),
        section("/cell/defect_node"),
        section("/**/segmentation_node", "score_min"),
    ],
    ids=lambda s: f"{s.name} {','.join(s.keys)}",
)
def test_sections_of_others_and_sections_that_arrive_are_left_alone(found):
    assert astray(found) == param_files.Astray([], [])


def test_one_file_serves_processes_of_which_each_runs_one_node():
    found = [section(f"/**/{name}") for name in NODES] + [section("/defect_node")]
    assert astray(*found[:3], nodes={"/cell/segmentation_node": "segmentation_node"}).refused == []
    assert astray(found[3], nodes={"/cell/segmentation_node": "segmentation_node"}).refused == []


@pytest.mark.parametrize(
    ("name", "nodes", "says"),
    [
        ("/cell2/defect_node", HERE, "is not for this defect_node, which is /cell/defect_node"),
        ("/**/defect_node", {"/cell/judge": "defect_node"}, "which is /cell/judge"),
        ("/**/perception", HERE, "write /** to mean all three"),
        ("/cell2/**", HERE, "reaches no node"),
    ],
)
def test_a_section_that_may_be_for_another_process_is_doubtful(name, nodes, says):
    found = astray(section(name), nodes=nodes)
    assert found.refused == []
    (text,) = found.doubtful
    assert says in text


def test_a_node_that_was_renamed_is_reached_by_its_new_name():
    nodes = {"/cell/judge": "defect_node"}
    assert astray(section("/**/judge"), nodes=nodes) == param_files.Astray([], [])
    (text,) = astray(section("/**/jugde_node", "min_views"), nodes=nodes).refused
    assert "here: /cell/judge" in text
    (text,) = astray(section("/judgee"), nodes=nodes).refused
    assert "did you mean '/**/judge'?" in text


def test_the_command_line_is_read_as_ros_reads_it():
    line = (
        "perception -p nothing --ros-args -r __ns:=/a --params-file one.yaml -p min_views:=2 "
        "-p defect_node:min_views:=3 --param defect_nod:views:=[a:b] -- --params-file no.yaml "
        "--ros-args --params-file two.yaml"
    )
    files, single = param_files.given(line.split())
    assert [f.name for f in files] == ["one.yaml", "two.yaml"]
    assert [(s.name, s.keys) for s in single] == [
        ("/defect_node", ("min_views",)),
        ("/defect_nod", ("views",)),
    ]


BROKEN = {
    "an unclosed quote": ("/**:\n  ros__parameters:\n    bundle: 'a\n", "line "),
    "a bad indentation": ("/**:\n  ros__parameters:\n    a: 1\n   b: 2\n", "line "),
    "a misspelt ros__parameters": (
        "/**:\n  ros__parameter:\n    min_views: 2\n",
        "'ros__parameter' stands where ros__parameters is wanted",
    ),
    "no ros__parameters": ("/**:\n  min_views: 2\n", "2 stands where ros__parameters is wanted"),
    "nothing below": ("/**:\n  ros__parameters:\n", "want names and values"),
    "a list of two types": (
        "/**:\n  ros__parameters:\n    views: [a, 1]\n",
        "views is a list of int and str, want one type",
    ),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_file_that_ros_refuses_is_named_with_the_reason(tmp_path, why):
    text, says = BROKEN[why]
    file = write(tmp_path, text)
    with pytest.raises(ConfigError, match="fix: ") as e:
        param_files.sections(file)
    assert str(file) in e.value.what
    assert says in e.value.what


def run(ros_env, *args, node="defect_node"):
    return subprocess.run(
        [sys.executable, "-c", f"from robollm.nodes.{node} import main; main()",
         "--ros-args", *args],
        env=ros_env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("why", ["an unclosed quote", "a list of two types"])
def test_a_node_that_can_not_start_ends_with_an_error_a_fix_and_code_2(tmp_path, ros_env, why):
    text, says = BROKEN[why]
    file = write(tmp_path, text)
    done = run(ros_env, "--params-file", str(file))
    assert done.returncode == 2
    assert f"error: parameter file {file}" in done.stderr
    assert says in done.stderr
    assert "\n  fix: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--params-file", "nowhere.yaml"), "error: parameter file nowhere.yaml can't be read"),
        (("-p", "min_views=3"), "error: ROS refuses the command line: "),
        (("--nonsense",), "error: ROS refuses the command line: "),
    ],
)
def test_a_bad_command_line_is_told_in_two_lines(ros_env, args, says):
    done = run(ros_env, *args)
    assert done.returncode == 2
    assert says in done.stderr
    assert "\n  fix: " in done.stderr
    assert "Traceback" not in done.stderr
    assert ".c:" not in done.stderr.partition("error: ")[2]


def common(station):
    return (
        "/**:\n  ros__parameters:\n    allow_untrained: true\n    diagnostics_period_s: 0.1\n"
        f"    bundle: {station / 'bundle'}\n    manifest: {station / 'manifest.json'}\n"
    )


def test_a_misspelt_section_stops_configure_of_every_node_with_the_near_name(
    make_cell, demo_station
):
    strict = "/**/defect_nod:\n  ros__parameters:\n    min_views: 2\n"
    cell = make_cell(text=common(demo_station) + strict, wait=False)
    said = "section '/**/defect_nod' with min_views reaches no node"
    for node in NODES:
        assert cell.until(lambda n=node: said in cell.values(n).get("last_error", ""), 60), cell.log
        assert cell.state(node) == "unconfigured"
    assert "fix: did you mean '/**/defect_node'?" in cell.log


def test_three_processes_share_one_file_with_a_section_for_each(make_cell, demo_station):
    text = common(demo_station)
    for node, setting in zip(NODES, ("max_instances: 50", "top_k: 3", "min_views: 2"), strict=True):
        text += f"/**/{node}:\n  ros__parameters:\n    {setting}\n"
    text += "/**/camera_driver:\n  ros__parameters:\n    fps: 10\n"
    cell = make_cell(text=text, executables=NODES)  # waits for all to be active
    assert "reaches no node" not in cell.log
