"""Starting, failing, repairing, stopping: the node lives, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from cell import NODES, pick, processes, shared_memory, stamp
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from std_srvs.srv import Trigger

T = Transition


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_nodes_with_exit_code_0_and_no_shared_memory_left(make_cell, number):
    cell = make_cell()
    cell.detections(cell.tote())
    theirs = shared_memory(cell.processes[0].pid) - cell.shared_memory_before
    assert theirs
    assert cell.stop(number) == [0]
    assert "Traceback" not in cell.log
    alive = set().union(*map(shared_memory, processes()))  # of other cells, still in use
    assert not [p for p in theirs - alive if p.exists()]


def test_a_signal_while_a_pick_waits_answers_it_before_the_end(make_cell):
    cell = make_cell(params={"view_timeout_s": 30.0})
    t = cell.tote()
    cell.pick_pub.publish(pick("open", t))
    assert cell.until(lambda: cell.values("defect_node").get("waiting_picks") == "1")
    assert cell.stop() == [0]
    first = cell.verdict("open").detections[0].results[0].hypothesis
    assert (first.class_id, first.score) == ("uninspected", 1.0)


def test_ten_times_down_and_up_again_leaves_every_node_as_it_was(make_cell):
    cell = make_cell()

    def round_trip(n):
        for transition in (
            T.TRANSITION_DEACTIVATE,
            T.TRANSITION_CLEANUP,
            T.TRANSITION_CONFIGURE,
            T.TRANSITION_ACTIVATE,
        ):
            for node in NODES:
                assert cell.change(node, transition), cell.log
        assert cell.until(
            lambda: (
                cell.tote_pub.get_subscription_count() == 1
                and cell.view_pubs["on_arm_low"].get_subscription_count() == 2
            )
        )
        t = cell.tote()
        cell.detections(t)
        cell.pick_pub.publish(pick(f"round-{n}", t))
        for v in ("on_arm_low", "tote_wall"):
            cell.view(v)
        assert cell.verdict(f"round-{n}").detections[0].results[0].hypothesis.score >= 0.5

    def rss():
        cell.settle()
        return float(cell.values("segmentation_node")["rss_mb"])

    for n in range(3):  # allocators and ORT's arenas reach their size
        round_trip(n)
    start = rss()
    for n in range(3, 13):
        round_trip(n)
    # Freed buffers stay in the heap (runtime/memory.py); leaks are looked for in the next test.
    assert rss() - start < 25, "MB in ten rounds"
    assert [cell.lifecycle(n) for n in NODES] == ["active"] * 3


def test_a_deactivated_node_answers_its_open_picks_first(make_cell):
    cell = make_cell(params={"view_timeout_s": 30.0})
    t = cell.tote()
    cell.pick_pub.publish(pick("open", t))
    assert cell.until(lambda: cell.values("defect_node").get("waiting_picks") == "1")
    assert cell.change("defect_node", T.TRANSITION_DEACTIVATE)
    first = cell.verdict("open").detections[0].results[0].hypothesis
    assert (first.class_id, first.score) == ("uninspected", 1.0)


def configure_fails(make_cell, says, *also, **kwargs):
    cell = make_cell(wait=False, **kwargs)
    assert cell.until(lambda: cell.state("defect_node") == "unconfigured", 60), cell.log
    assert cell.until(lambda: says in cell.values("defect_node").get("last_error", "")), (
        cell.values("defect_node")
    )
    assert cell.diagnostics["defect_node"].level == b"\x02"
    for text in (says, *also):
        assert text in cell.log
    assert cell.processes[0].poll() is None
    assert cell.lifecycle("defect_node") == "unconfigured"
    return cell


def test_a_misspelt_key_stops_configure_with_the_near_one_as_the_fix(make_cell):
    configure_fails(
        make_cell, "view_timeout", "did you mean 'view_timeout_s'", params={"view_timeout": 2.0}
    )


def test_a_value_of_the_wrong_type_stops_configure_in_words(make_cell):
    configure_fails(
        make_cell, "min_views: wants int, got 'two'", "fix: ", params={"min_views": "two"}
    )


def test_a_value_out_of_range_stops_configure_in_words(make_cell):
    configure_fails(make_cell, "min_views: 99 is outside [1, 16]", params={"min_views": 99})


def test_views_that_make_no_sense_stop_configure(make_cell):
    configure_fails(make_cell, "each name once", params={"views": ["a", "a"]}, views=("a",))


def test_a_provider_that_is_not_here_is_an_error_and_no_silent_fallback(make_cell):
    configure_fails(make_cell, "CUDAExecutionProvider", "fix: ", params={"provider": "cuda"})


def test_random_weights_are_refused_unless_allowed(make_cell):
    configure_fails(
        make_cell, "random weights", "allow_untrained: true", params={"allow_untrained": False}
    )


def test_a_missing_bundle_is_named_with_a_fix(make_cell, tmp_path):
    configure_fails(
        make_cell, "no model bundle", "fix: ", params={"bundle": str(tmp_path / "none")}
    )


def test_a_flipped_byte_stops_configure_and_a_repaired_bundle_needs_no_restart(
    make_cell, demo_station, tmp_path
):
    station = tmp_path / "station"
    shutil.copytree(demo_station, station)
    victim = station / "bundle" / "defects.onnx"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(bytes(raw))
    cell = configure_fails(make_cell, "damaged", "copy the whole bundle", station=station)
    assert cell.got["defects"] == []
    shutil.copy(demo_station / "bundle" / "defects.onnx", victim)
    for node in NODES:
        assert cell.change(node, T.TRANSITION_CONFIGURE), cell.log
        assert cell.change(node, T.TRANSITION_ACTIVATE), cell.log
    assert cell.until(lambda: cell.tote_pub.get_subscription_count())
    cell.detections(cell.tote())


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["B1", "B1"], "more than once"),
        (["B1", ""], "missing or empty"),
        ([None], "missing or empty"),
    ],
    ids=["twice", "empty", "missing"],
)
def test_a_bad_manifest_stops_identification_only(make_cell, demo_station, tmp_path, ids, says):
    station = tmp_path / "station"
    shutil.copytree(demo_station, station)
    card = {"format": "robollm-manifest", "format_version": 1, "products": {}}
    (station / "manifest.json").write_text(json.dumps({**card, "containers": {"tote-A": ids}}))
    cell = make_cell(station, wait=False)
    assert cell.until(lambda: says in cell.values("identification_node").get("last_error", ""), 60)
    assert cell.until(lambda: cell.state("defect_node") == "active", 60)
    assert cell.state("identification_node") == "unconfigured"


def test_reload_keeps_the_old_manifest_when_the_new_one_is_broken(
    make_cell, demo_station, tmp_path
):
    station = tmp_path / "station"
    shutil.copytree(demo_station, station)
    cell = make_cell(station)
    manifest = station / "manifest.json"
    good = manifest.read_text()
    reload = "identification_node/reload_manifest"
    manifest.write_text(good[: len(good) // 2])
    answer = cell.call(Trigger, reload, Trigger.Request())
    assert not answer.success
    assert "stays in use" in answer.message
    data = json.loads(good)
    data["containers"] = {"tote-new": data["containers"]["tote-A"]}
    manifest.write_text(json.dumps(data))
    answer = cell.call(Trigger, reload, Trigger.Request())
    assert answer.success, answer.message
    assert cell.until(lambda: cell.values("identification_node")["manifest_containers"] == "1")
    assert cell.count("identification_node", "reload_failed") == 1


def test_a_watched_manifest_is_reloaded_when_it_changes(make_cell, demo_station, tmp_path):
    station = tmp_path / "station"
    shutil.copytree(demo_station, station)
    cell = make_cell(station, params={"watch": True})
    data = json.loads((station / "manifest.json").read_text())
    data["containers"]["tote-third"] = data["containers"]["tote-A"]
    (station / "manifest.json").write_text(json.dumps(data))
    assert cell.until(lambda: cell.values("identification_node")["manifest_containers"] == "3")


def test_parameters_are_described_and_ros_refuses_what_the_settings_forbid(cell):
    names = ["min_views", "provider", "view_timeout_s"]
    answer = cell.call(
        DescribeParameters,
        "defect_node/describe_parameters",
        DescribeParameters.Request(names=names),
    )
    low, provider, timeout = answer.descriptors
    assert (low.integer_range[0].from_value, low.integer_range[0].to_value) == (1, 16)
    assert not low.read_only
    assert provider.read_only
    assert "cpu, openvino, cuda, tensorrt" in provider.additional_constraints
    assert timeout.floating_point_range[0].to_value == 60
    assert all(d.description for d in answer.descriptors)

    def set_to(name, **value):
        p = Parameter(name=name, value=ParameterValue(**value))
        request = SetParameters.Request(parameters=[p])
        return cell.call(SetParameters, "defect_node/set_parameters", request).results[0]

    assert not set_to("min_views", type=2, integer_value=0).successful
    assert not set_to("provider", type=4, string_value="cuda").successful
    assert not set_to("multi_pick_min", type=3, double_value=float("nan")).successful
    assert set_to("min_views", type=2, integer_value=2).successful
    t = cell.tote()
    cell.pick_pub.publish(pick("strict", t))
    cell.view("on_arm_low")
    first = cell.verdict("strict").detections[0].results[0].hypothesis.class_id
    assert first != "nominal"  # one view is not enough now
    assert set_to("min_views", type=2, integer_value=1).successful


def test_nodes_in_processes_of_their_own_give_the_same_answers_as_together(make_cell):
    answers = []
    for executables in (("perception",), NODES):
        cell = make_cell(executables=executables)
        from std_msgs.msg import String

        cell.container_pub.publish(String(data="tote-A"))
        assert cell.until(
            lambda c=cell: c.values("identification_node").get("container") == "tote-A"
        )
        listeners = min(len(executables), 2)
        assert cell.until(lambda c=cell, n=listeners: c.tote_pub.get_subscription_count() == n)
        # Nobody outside can see when the identification node hears the segmentation node: the
        # tote is sent again until its instances have names.
        for _ in range(10):
            t = cell.tote()
            found = cell.detections(t)
            if cell.until(
                lambda c=cell, t=t: [m for m in c.got["identifications"] if stamp(m) == t], 3
            ):
                break
        cell.pick_pub.publish(pick("same", t))
        from cell import picture

        for i, v in enumerate(("on_arm_low", "tote_wall")):
            cell.view(v, rgb=picture(40 + i))
        cell.verdict("same")
        assert cell.until(lambda c=cell: c.answers("pick_identifications", "same"))
        assert cell.got["identifications"], cell.log
        answers.append(
            [
                [
                    [
                        (r.hypothesis.class_id, pytest.approx(r.hypothesis.score, abs=1e-5))
                        for r in d.results
                    ]
                    for d in msg.detections
                ]
                for msg in (
                    found,
                    cell.got["identifications"][-1],
                    cell.verdict("same"),
                    cell.answers("pick_identifications", "same")[0],
                )
            ]
        )
    assert answers[0] == answers[1]


def test_a_model_that_gives_nan_is_found_by_the_warm_up_and_named(
    make_cell, demo_station, tmp_path
):
    import hashlib

    import onnx
    from onnx import TensorProto, helper

    station = tmp_path / "station"
    shutil.copytree(demo_station, station)
    card_file = station / "bundle" / "bundle.json"
    card = json.loads(card_file.read_text())

    def nan_graph(output, width):
        nan = helper.make_tensor("nan", TensorProto.FLOAT, [1], [float("nan")])
        dim = card_dim
        fixed = helper.make_tensor("w", TensorProto.FLOAT, [dim, width], [1.0] * dim * width)
        nodes = [
            helper.make_node("MatMul", ["cls", "w"], ["y"]),
            helper.make_node("Mul", ["y", "nan"], [output]),
        ]
        graph = helper.make_graph(
            nodes,
            "nan",
            [helper.make_tensor_value_info("cls", TensorProto.FLOAT, ["n", dim])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", width])],
            [nan, fixed],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    backbone = onnx.load(station / "bundle" / "backbone.onnx")
    (cls,) = [o for o in backbone.graph.output if o.name == "cls"]
    card_dim = cls.type.tensor_type.shape.dim[1].dim_value
    path = station / "bundle" / "defects.onnx"
    onnx.save(nan_graph("logits", 3), path)
    raw = path.read_bytes()
    card["files"]["defects.onnx"] = {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "bytes": len(raw),
    }
    card_file.write_text(json.dumps(card))
    cell = make_cell(station, wait=False)
    assert cell.until(lambda: "NaN or infinity in logits" in cell.log, 60), cell.log
    assert cell.processes[0].poll() is None
    assert cell.state("defect_node") in ("", "unconfigured")
