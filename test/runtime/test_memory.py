"""Three users of one Station hold the weights once, at both input sizes. Measured, not believed.

Every case runs in a process of its own and reports its resident set (RSS) in MiB after each step.
What the steps allocate besides weights (activations, ONNX Runtime's arena) is told apart by
running both sizes in both orders: whichever size comes second may add its activations, which are
small here, but no second copy of the weights, which are large.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import ctypes, gc, json, sys
import numpy as np, psutil
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.station import Station
import onnxruntime

case, bundle = sys.argv[1:]
config = RuntimeConfig(bundle=bundle, threads=1, allow_untrained=True)
rng = np.random.default_rng(0)
report, alive = {}, []

def step(name):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is freed goes back to the system: RSS is what is used
    report[name] = psutil.Process().memory_info().rss / 2**20

def picture(stamp):
    return Frame(rng.integers(0, 255, (240, 320, 3), np.uint8), "rgb", stamp)

def tote(perceiver):
    for i in range(3):
        perceiver.segment(picture(i + 1))

def crop(perceiver):
    for i in range(3):
        view = [Region(picture(100 + i))]
        perceiver.embed(view)
        perceiver.inspect(view)

step("imports")
if case in ("tote-crop", "crop-tote"):
    perceiver = Perceiver(config)
    step("loaded")
    for name in case.split("-"):
        {"tote": tote, "crop": crop}[name](perceiver)
        step(name)
else:
    station = Station()
    for user in range(3):
        alive.append(station.acquire(config) if case == "station" else Perceiver(config))
        tote(alive[-1])
        crop(alive[-1])
        step(f"user {user + 1}")
    if case == "station":
        alive.clear()
        for _ in range(3):
            station.release(config)
        step("released")
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A sketch whose backbone weighs more than 60 MB: (folder, MiB of its weights)."""
    from robollm.export.sketch import SketchSize, write_sketch_bundle

    size = SketchSize(dim=512, depth=6, heads=8, embedding=16, channels=16)
    out = tmp_path_factory.mktemp("big") / "bundle"
    write_sketch_bundle(out, size=size, tote_hw=(192, 240), crop_hw=(96, 96))
    weights = (out / "backbone.onnx").stat().st_size / 2**20
    assert weights > 60
    return out, weights


@pytest.fixture(scope="module")
def measure(big):
    """RSS after each step of a case, MiB."""
    done = {}

    def run(case):
        if case not in done:
            child = subprocess.run(
                [sys.executable, "-c", CHILD, case, str(big[0])],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
            )  # fmt: skip
            assert child.returncode == 0, child.stderr
            done[case] = json.loads(child.stdout)
            steps = ", ".join(f"{k} {v:.0f}" for k, v in done[case].items())
            print(f"\nRSS in MiB, weights {big[1]:.0f}, {case}: {steps}")
        return done[case]

    return run


def test_the_second_and_third_user_of_a_station_cost_no_weights(big, measure):
    rss = measure("station")
    assert rss["user 3"] - rss["user 1"] < 0.1 * big[1]


def test_three_perceivers_would_cost_three_times_the_weights(big, measure):
    """The control: this measure sees a copy of the weights when there is one."""
    rss = measure("separate")
    assert rss["user 3"] - rss["user 1"] > 1.5 * big[1]


@pytest.mark.parametrize("order", ["tote-crop", "crop-tote"])
def test_a_second_input_size_costs_activations_but_no_weights(big, measure, order):
    rss = measure(order)
    first, second = order.split("-")
    assert rss["loaded"] - rss["imports"] > 0.9 * big[1], "the weights are in memory"
    assert rss[second] - rss[first] < 0.5 * big[1]


def test_both_orders_end_with_the_same_memory(big, measure):
    one, other = measure("tote-crop"), measure("crop-tote")
    assert abs(one["crop"] - other["tote"]) < 0.3 * big[1]


def test_the_weights_leave_memory_with_the_last_user(big, measure):
    rss = measure("station")
    assert rss["user 3"] - rss["released"] > 0.8 * big[1]
