"""Three users of one Station hold the weights once, at both input sizes. Measured, not believed.

The measure is bench/memory.py, which publishes its numbers; here they have limits.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_memory", ROOT / "bench" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def big(bench, tmp_path_factory):
    """A sketch whose backbone weighs more than 60 MB: (folder, MiB of its weights)."""
    out = tmp_path_factory.mktemp("big") / "bundle"
    weights = bench.write_big_bundle(out)["fp32"]
    assert weights > 60
    return out, weights


@pytest.fixture(scope="module")
def measure(bench, big):
    """RSS after each step of a case, MiB."""
    done = {}

    def run(case):
        if case not in done:
            done[case] = bench.measure(case, big[0])
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
