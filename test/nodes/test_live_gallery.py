"""A node names instances without a pause while another process changes the gallery."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from cell import RELIABLE, Cell, header, image, picture, stamp
from std_msgs.msg import String
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.gallery.store import open_gallery, open_writer

NODE = "identification_node"
CHANGES = 120

# Every change is a commit of its own: product added, container changed, product removed or renamed.
# It ends when so many are made and its input is closed.
WRITER = """
import itertools
import select
import sys
from pathlib import Path

import numpy as np

from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import open_writer, read_card

folder, changes = Path(sys.argv[1]), int(sys.argv[2])
made_with, dim, rng = read_card(folder).made_with, read_card(folder).dim, np.random.default_rng(1)
with open_writer(folder, made_with=made_with) as writer:
    for n in itertools.count():
        product = f"new-{n // 4}"
        if n % 4 == 0:
            vectors = rng.normal(size=(1, dim))
            writer.add_references(product, vectors, sources=[product], sha256s=[product])
        elif n % 4 == 1:
            writer.put_container("tote-new", [product])
        elif n % 4 == 2:
            writer.put_product(Product(product, title=f"thing {n}"))
        else:
            writer.remove_product(product)
        generation = writer.commit()
        if n + 1 >= changes and select.select([sys.stdin], [], [], 0)[0]:
            break
print(generation)
"""


def boxes(ns: int) -> Detection2DArray:
    """Ten instances of one tote image."""
    rows = []
    for i in range(10):
        row = Detection2D(header=header(ns, "tote_cam"), id=str(i + 1))
        row.bbox.center.position.x, row.bbox.center.position.y = 40.0 + 20 * i, 60.0 + 10 * i
        row.bbox.size_x, row.bbox.size_y = 60.0, 50.0
        rows.append(row)
    return Detection2DArray(header=header(ns, "tote_cam"), detections=rows)


def named(cell: Cell, pub, products: frozenset[str]) -> None:
    """One tote image: all ten instances get an answer out of the container."""
    ns = cell.now()
    cell.tote_pub.publish(image(picture(ns % 97), ns, "tote_cam"))

    def answered() -> list[Detection2DArray]:
        return [m for m in cell.got["identifications"] if stamp(m) == ns]

    # Two topics have no common order: the boxes may be there before their image is.
    def early(so_far: int) -> bool:
        return cell.count(NODE, "detections_without_image") > so_far

    while not answered():
        before = cell.count(NODE, "detections_without_image")
        pub.publish(boxes(ns))
        assert cell.until(lambda n=before: answered() or early(n)), cell.log
    msg = answered()[0]
    assert len(msg.detections) == 10
    for d in msg.detections:
        ids = {r.hypothesis.class_id for r in d.results} - {"unknown", "ambiguous"}
        assert ids
        assert ids <= products


def test_a_node_names_instances_while_another_process_commits(make_cell, demo_station, tmp_path):
    station = tmp_path / "station"
    shutil.copytree(demo_station, station)
    gallery = station / "gallery"
    containers = json.loads((station / "manifest.json").read_text())["containers"]
    with open_writer(gallery) as writer:
        for name, products in containers.items():
            writer.put_container(name, products)
        writer.commit()
    where = {"manifest": "", "gallery": str(gallery), "watch": True, "watch_period_s": 0.1}
    cell = make_cell(station, params=where, executables=(NODE,))
    pub = cell.node.create_publisher(Detection2DArray, "detections", RELIABLE)
    assert cell.until(
        lambda: pub.get_subscription_count() and cell.tote_pub.get_subscription_count()
    )
    cell.container_pub.publish(String(data="tote-A"))
    assert cell.until(lambda: cell.values(NODE).get("container") == "tote-A")
    products, during = frozenset(containers["tote-A"]), 0
    command = [sys.executable, "-c", WRITER, str(gallery), str(CHANGES)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as p:
        while p.poll() is None:
            named(cell, pub, products)
            during += 1
            if during >= 5 and cell.count(NODE, "reloads") >= 3:
                p.stdin.close()
        last = int(p.stdout.read())
    assert p.returncode == 0
    assert during >= 5
    assert cell.until(lambda: cell.values(NODE).get("gallery_generation") == str(last)), cell.log
    assert cell.count(NODE, "reloads") >= 3  # while it was being asked
    for kind in ("reload_failed", "internal_error", "inference_error"):
        assert cell.count(NODE, kind) == 0, cell.log
    assert cell.values(NODE)["dropped_frames"] == "0"
    assert "Traceback" not in cell.log
    now = open_gallery(gallery, embedding_sha256=None, bundle="")
    assert now.generation == last
    now.close()
