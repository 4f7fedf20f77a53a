"""Up and down, again and again, with and without work in between: nothing adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

ROUNDS = """
import ctypes, gc, json, sys, threading, time
import rclpy
from rclpy.executors import SingleThreadedExecutor
from cell import RELIABLE, image, pick, picture
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray
from robollm.core.frame import Frame
from robollm.nodes.health import rss_mb
from robollm.nodes.perception import build
from robollm.runtime.arrival import Arrival
from robollm.runtime.perceiver import Perceiver

rclpy.init(args=["x", "--ros-args", "--params-file", sys.argv[1], "--log-level", "error"])
nodes, mb, work = build(), [], sys.argv[2] == "work"
executor = SingleThreadedExecutor()
world = rclpy.create_node("world", start_parameter_services=False)
for node in (*nodes, world):
    executor.add_node(node)
heard, frames = [], [picture(s) for s in range(3)]
for topic in ("detections", "identifications", "defects", "pick_identifications"):
    world.create_subscription(Detection2DArray, topic, lambda m, t=topic: heard.append(t), RELIABLE)
pubs = {t: world.create_publisher(Image, t, RELIABLE)
        for t in ("image", "views/low/image", "views/high/image")}
picks = world.create_publisher(Detection2D, "pick", RELIABLE)

def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, heard
        executor.spin_once(timeout_sec=0.05)

def one_pick(n):
    heard.clear()
    until(lambda: picks.get_subscription_count() == 2 and pubs["image"].get_subscription_count()
          and all(pubs[t].get_subscription_count() == 2 for t in pubs if t != "image"))
    now = time.time_ns()
    pubs["image"].publish(image(frames[0], now, "tote"))
    until(lambda: {"detections", "identifications"} <= set(heard))
    picks.publish(pick(f"p{n}", now))
    for i, topic in enumerate(("views/low/image", "views/high/image"), 1):
        pubs[topic].publish(image(frames[i], time.time_ns(), "view"))
    until(lambda: {"defects", "pick_identifications"} <= set(heard))

for n in range(31):
    for step in ("configure", "activate", "work", "deactivate", "cleanup"):
        if step == "work":
            one_pick(n) if work else None
            continue
        for node in nodes:
            assert getattr(node, f"trigger_{step}")().name == "SUCCESS", step
    assert threading.active_count() == 1, threading.enumerate()
    if n % 5 == 0:
        for _ in range(2):  # the executor keeps what it last waited for
            executor.spin_once(timeout_sec=0.01)
        gc.collect()
        kinds = (Arrival, Frame, Perceiver)
        left = [type(o).__name__ for o in gc.get_objects() if isinstance(o, kinds)]
        assert not left, left
        ctypes.CDLL(None).malloc_trim(0)
        mb.append(rss_mb())
print(json.dumps(mb))
"""


@pytest.mark.parametrize("between", ["nothing", "work"])
def test_what_cleanup_frees_is_really_gone(demo_station, tmp_path, ros_env, between):
    """A leaked bundle, gallery or image would add up; what the heap merely keeps is trimmed."""
    params = tmp_path / "params.yaml"
    params.write_text(
        "/**:\n  ros__parameters:\n    allow_untrained: true\n    views: [low, high]\n"
        f"    threads: 1\n    bundle: {demo_station / 'bundle'}\n"
        f"    manifest: {demo_station / 'manifest.json'}\n"
    )
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [ros_env.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, str(params), between],
        # One arena: every round has new threads, and which arena they get would be noise.
        env={**ros_env, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "1"},
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mb = json.loads(done.stdout)
    # The first ten rounds fill caches of threads and connections, and later ones may, too; a leak
    # comes with every round.
    grown = [after - before for before, after in pairwise(mb[2:])]
    assert median(grown) < 0.5, f"MB after 11, 16, ... 31 rounds: {mb[2:]}"
    assert sum(grown) < 5, f"MB after 11, 16, ... 31 rounds: {mb[2:]}"
