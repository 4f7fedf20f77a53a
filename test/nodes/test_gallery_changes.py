"""Stock changes while the robot works: nothing stops, nothing is lost, nothing is half seen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from cell import RELIABLE, Cell, pick
from lifecycle_msgs.msg import Transition
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robollm.gallery.store import open_gallery, open_writer
from robollm.nodes import gallery_desk

T = Transition
NODE = "identification_node"
RELOAD = f"{NODE}/reload_manifest"
DOUBTS = {"unknown", "ambiguous", "not_in_manifest"}


@pytest.fixture
def station(demo_station, tmp_path):
    """A station whose gallery keeps the containers; it may be changed."""
    folder = tmp_path / "station"
    shutil.copytree(demo_station, folder)
    containers = json.loads((folder / "manifest.json").read_text())["containers"]
    with open_writer(folder / "gallery") as writer:
        for name, products in containers.items():
            writer.put_container(name, products)
        writer.commit()
    return folder


@pytest.fixture
def stock(make_cell, station):
    """Start a cell on the gallery's containers."""

    def start(**params):
        of_gallery = {"manifest": "", "gallery": str(station / "gallery")}
        cell = make_cell(station, params={**of_gallery, "view_timeout_s": 20.0, **params})
        cell.manifest_pub = cell.node.create_publisher(String, "manifest", RELIABLE)
        assert cell.until(lambda: cell.manifest_pub.get_subscription_count() == 1)
        return cell

    return start


def listed(station, container):
    gallery = open_gallery(station / "gallery", embedding_sha256=None, bundle="")
    try:
        return gallery.manifests.containers.get(container)
    finally:
        gallery.close()


def commit(station, container, products):
    """Another process puts a container."""
    code = (
        "import json, sys; from pathlib import Path\n"
        "from robollm.gallery.store import open_writer\n"
        "with open_writer(Path(sys.argv[1])) as w:\n"
        "    w.put_container(sys.argv[2], json.loads(sys.argv[3])); print(w.commit())"
    )
    words = [str(station / "gallery"), container, json.dumps(sorted(products))]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
    return int(done.stdout)


def generation(cell):
    return int(cell.values(NODE).get("gallery_generation", -1))


def in_container(cell, container):
    cell.container_pub.publish(String(data=container))
    assert cell.until(lambda: cell.values(NODE).get("container") == container), cell.log


def announce(cell: Cell, pick_id: str) -> None:
    t = cell.tote()
    cell.detections(t)
    before = cell.count(NODE, "picks")
    cell.pick_pub.publish(pick(pick_id, t))
    assert cell.until(lambda: cell.count(NODE, "picks") == before + 1), cell.log


def named(cell: Cell, pick_id: str) -> list[str]:
    """Send the views and return what the pick is called."""
    cell.view("on_arm_low")
    cell.view("tote_wall")
    assert cell.until(lambda: cell.answers("pick_identifications", pick_id)), cell.log
    (msg,) = cell.answers("pick_identifications", pick_id)
    return [r.hypothesis.class_id for r in msg.detections[0].results]


def test_a_message_changes_a_container_durably_and_the_next_pick_is_named_from_it(stock, station):
    cell = stock()
    in_container(cell, "tote-A")
    (one, *_) = sorted(listed(station, "tote-A"))
    cell.manifest_pub.publish(String(data=json.dumps({"container": "tote-A", "products": [one]})))
    assert cell.until(lambda: cell.count(NODE, "manifest_updates") == 1), cell.log
    assert listed(station, "tote-A") == {one}
    announce(cell, "p")
    assert set(named(cell, "p")) - DOUBTS == {one}
    cell.manifest_pub.publish(String(data=json.dumps({"container": "tote-A", "remove": True})))
    assert cell.until(lambda: cell.count(NODE, "manifest_updates") == 2), cell.log
    announce(cell, "q")
    assert named(cell, "q") == ["unknown"]
    assert listed(station, "tote-A") is None


def test_a_pick_keeps_the_manifest_that_was_there_when_it_was_announced(stock, station):
    cell = stock()
    in_container(cell, "tote-A")
    before, others = listed(station, "tote-A"), listed(station, "tote-B")
    announce(cell, "p")
    # The stock system books the pick at once: what was picked is no longer in the container.
    gone = json.dumps({"container": "tote-A", "products": sorted(others - before)})
    cell.manifest_pub.publish(String(data=gone))
    assert cell.until(lambda: cell.count(NODE, "manifest_updates") == 1), cell.log
    products = set(named(cell, "p")) - DOUBTS
    assert products
    assert products <= before
    announce(cell, "q")
    assert set(named(cell, "q")) - DOUBTS <= others - before


def test_a_message_is_refused_where_a_file_is_the_truth(make_cell, demo_station):
    cell = make_cell(demo_station)
    pub = cell.node.create_publisher(String, "manifest", RELIABLE)
    assert cell.until(lambda: pub.get_subscription_count() == 1)
    pub.publish(String(data=json.dumps({"container": "tote-A", "products": []})))
    assert cell.until(lambda: cell.count(NODE, "manifest_refused") == 1), cell.log
    assert "not of messages" in cell.log
    assert cell.values(NODE)["manifest_containers"] == "2"
    pub.publish(String(data="nonsense"))
    assert cell.until(lambda: cell.count(NODE, "manifest_refused") == 2), cell.log


def test_with_watch_another_process_changes_the_stock_of_a_working_robot(stock, station):
    cell = stock(watch=True, watch_period_s=0.1)
    (one, *_) = sorted(listed(station, "tote-B"))
    in_container(cell, "tote-A")
    new = commit(station, "tote-A", [one])
    assert cell.until(lambda: generation(cell) == new), cell.log
    announce(cell, "p")
    assert set(named(cell, "p")) - DOUBTS == {one}
    assert cell.until(lambda: cell.values(NODE).get("last_gallery_generation") == str(new))


def test_without_watch_a_change_waits_for_reload_even_if_the_node_is_not_active(stock, station):
    cell = stock(watch_period_s=0.1)
    old = generation(cell)
    new = commit(station, "tote-C", ["B1"])
    cell.settle()
    assert generation(cell) == old
    assert cell.change(NODE, T.TRANSITION_DEACTIVATE)
    answer = cell.call(Trigger, RELOAD, Trigger.Request())
    assert answer.success, answer.message
    assert "3 containers" in answer.message
    assert cell.until(lambda: generation(cell) == new)


def test_a_gallery_that_goes_away_leaves_the_old_one_in_use_and_the_node_says_so(stock, station):
    cell = stock(watch=True, watch_period_s=0.1)
    in_container(cell, "tote-A")
    (station / "gallery").rename(station / "away")
    assert cell.until(lambda: cell.count(NODE, "reload_failed") == 1), cell.log
    assert cell.until(lambda: "gallery as of" in cell.diagnostics[NODE].message)
    announce(cell, "p")
    assert set(named(cell, "p")) - DOUBTS
    answer = cell.call(Trigger, RELOAD, Trigger.Request())
    assert not answer.success
    assert "the old gallery stays in use" in answer.message
    (station / "away").rename(station / "gallery")
    assert cell.until(lambda: "gallery as of" not in cell.diagnostics[NODE].message)
    new = commit(station, "tote-A", ["B1"])
    assert cell.until(lambda: generation(cell) == new)


def test_diagnostics_tell_which_gallery_is_searched_and_how(stock, station):
    cell = stock()
    got = cell.values(NODE)
    gallery = open_gallery(station / "gallery", embedding_sha256=None, bundle="")
    assert got["gallery_generation"] == str(gallery.generation)
    assert got["gallery_references"] == str(gallery.card.references)
    assert float(got["gallery_removed_share"]) == 0
    assert float(got["gallery_age_s"]) >= 0
    assert got["gallery_plan"] == gallery.plan
    assert "bundle's thresholds" in got["calibration"]
    gallery.close()


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"manifest": "", "gallery": ""}, "no manifest is set"),
        ({"whole_search": "approximate"}, "tune"),
        ({"product_score": "mean"}, "product_score"),
    ],
)
def test_what_can_not_be_searched_stops_configure_in_words(make_cell, station, params, says):
    where = {"manifest": "", "gallery": str(station / "gallery")}
    cell = make_cell(station, params={**where, **params}, wait=False)
    assert cell.until(lambda: cell.state(NODE) == "unconfigured", 60), cell.log
    assert cell.until(lambda: says in cell.log), cell.log
    answer = cell.call(Trigger, RELOAD, Trigger.Request())
    assert answer.message == "the node is not configured: nothing to reload"


def test_a_file_that_goes_while_the_folder_is_measured_is_told_and_no_error():
    class Catalogue:
        @property
        def gallery(self):
            raise FileNotFoundError(2, "No such file or directory", "writer.json")

    (told,) = gallery_desk._facts(Catalogue()).values()
    assert "writer.json" in told
