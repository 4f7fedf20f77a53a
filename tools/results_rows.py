"""The rows of the README's table: which numbers of which file, in which words."""

from __future__ import annotations

from collections.abc import Callable

import results_end_to_end
import results_evaluation
import results_gallery
from results_end_to_end import BOUND, MORE, RUN
from results_row import (
    Card,
    NotMeasuredError,
    Row,
    busy,
    case,
    cpu,
    line,
    run_of,
    runs,
    seconds,
    times,
)


def backbone(card: Card) -> str:
    """Base at 640 px."""
    rows = case(card, "base 640", "engines")["engines"]
    base = rows[card["reference"]]
    if "openvino bf16" not in rows:
        raise NotMeasuredError("openvino bf16")
    half = rows["openvino bf16"]
    return (
        f"torch eager {seconds(base['p50_ms'])}; "
        f"{times(rows, [n for n in rows if n != card['reference']])}; OpenVINO bf16 reaches "
        f"{half['gflops']} GFLOP/s, {100 * half['of_matmul']:.0f} % of a large bf16 product"
    )


def backbone_conditions(card: Card) -> str:
    """Runs and machine of Base at 640 px."""
    found = case(card, "base 640", "engines")
    count = runs(found["engines"][card["reference"]])
    return f"random weights, {count}, {cpu(card, 'base 640')}{busy(found)}"


def cameras(card: Card) -> str:
    """Eight cameras that share, and one beside a flood."""
    rows, flood = card["cases"]["view"]["8 cameras"], card["cases"]["flood"]

    def served(name: str) -> str:
        return f"{rows[name]['served_hz']:.0f} crops a second, p95 {rows[name]['p95_ms']:.0f} ms"

    return (
        f"runs of one picture: {served('one by one')}; of up to 16: {served('shared')}; a tote "
        f"camera beside a flood of 64 crops: p50 {flood['one by one']['p50_ms']:.0f} ms, "
        f"{flood['shared']['p50_ms']:.0f} ms, and {flood['one lock']['p50_ms']:.0f} ms where a "
        "whole call holds a lock"
    )


def cameras_conditions(card: Card) -> str:
    """What the cameras ask for, and the machine."""
    return (
        "8 cameras that ask for 4 times what there is; small sketch encoder, fp32, "
        f"{cpu({'machine': card['conditions']})}{busy(card)}"
    )


def peers(card: Card) -> str:
    """Ratios against Mask R-CNN."""
    rows = case(card, "segmentation")["rows"]
    base = rows[card["reference"]]
    others = [n for n in rows if n != card["reference"]]
    return f"{card['reference']} {seconds(base['p50_ms'])}; {times(rows, others)}"


def peers_conditions(card: Card) -> str:
    """Runs and machine."""
    found = case(card, "segmentation")
    count = runs(found["rows"][card["reference"]])
    return f"random weights; {BOUND}; {count}; {cpu(card, 'segmentation')}{busy(found)}"


def instances(card: Card) -> str:
    """Milliseconds for each more instance."""
    rows = case(card, "instances")["rows"]
    return "; ".join(f"{name} {line(row['p50_ms'])}" for name, row in rows.items())


def proposals(card: Card) -> str:
    """Time and loss by number of proposals."""
    found = case(card, "proposals")
    rows = found["rows"]
    shown = [n for n in ("20", "50", "100", "200", "1000") if n in rows]
    return "; ".join(
        f"{n}: {seconds(rows[n]['p50_ms'])}, {rows[n]['mask_mAP50']:.3f}" for n in shown
    )


def once(card: Card) -> str:
    """Recall of crops and of parts of the tote."""
    rows = case(card, "crops or tote")["rows"]
    a, b = rows["crops"], rows["tote"]
    return (
        f"x {b['ratio']:g}; recall@1 {b['recall@1_container']:.3f} against "
        f"{a['recall@1_container']:.3f}"
    )


def startup(card: Card) -> str:
    """Seconds to the first verdict."""
    parts = []
    for name in started(card):
        found = case(card, name)
        each = (f"{n} {r['verdict_s']:.1f} s" for n, r in found["rows"].items())
        parts.append(f"{name} ({found['bundle_mib']} MiB): {', '.join(each)}")
    return "; ".join(parts)


def started(card: Card) -> list[str]:
    """The cases with random weights that were measured.

    Raises:
        NotMeasuredError: there is none.
    """
    found = [n for n in ("small", "base") if "rows" in card["cases"].get(n, {})]
    if not found:
        raise NotMeasuredError("small")
    return found


def ros(size: str) -> Callable[[Card], str]:
    """ROS against the Perceiver."""

    def text(card: Card) -> str:
        s = card["sizes"][size]
        dds, direct = s["dds_ms"], s["direct_ms"]
        return (
            f"{dds['p50']:.0f} ms against {direct['p50']:.0f} ms, x {s['ratio_p50']:.2f} "
            f"(p95 {dds['p95']:.0f}, {direct['p95']:.0f})"
        )

    return text


def simulated(card: Card) -> str:
    """Pictures a minute by two processes."""

    def rate(name: str, kind: str) -> float:
        (two,) = (r for r in card["cases"][name]["runs"] if r["processes"] == 2)
        return float(two[kind])

    values = (
        rate("totes 384x288, 6 pictures per drop", "pictures_per_min"),
        rate("totes 384x288, 1 picture per drop", "jobs_per_min"),
        rate("picks", "jobs_per_min"),
    )
    return ", ".join(f"{v:.0f}" for v in values) + " a minute at 384x288"


def training(card: Card) -> str:
    """The small detector's step."""
    t = card["tasks"]["segmentation, small"]
    return (
        f"{t['bf16_samples_per_cpu_s']} against {t['fp32_samples_per_cpu_s']} images per CPU "
        f"second, x {t['ratio']}"
    )


def memory(card: Card) -> str:
    """What the second and third user of a backbone cost."""
    one, many = (c["user 3"] - c["user 1"] for c in map(card["cases"].get, ("station", "separate")))
    return f"+ {one:.0f} MiB (three separate ones: + {many:.0f})"


def weights(card: Card) -> str:
    """The size of the shared weights."""
    return f"backbone of {card['backbone_file']['fp32']:.0f} MiB, both input sizes"


ROWS = (
    *results_end_to_end.ROWS,
    Row(
        "BEiT-3 Base alone, 640 px",
        backbone,
        backbone_conditions,
        "python bench/backbone.py",
        "backbone",
        f"[all sizes]({MORE}#the-encoder)",
        "base 640",
    ),
    Row(
        "segmentation alone against what else there is, 640 px, time only",
        peers,
        peers_conditions,
        "python bench/peers.py",
        "peers",
        case="segmentation",
    ),
    Row(
        "boxes to the RoI heads: time to masks, mask mAP50",
        proposals,
        lambda c: (
            f"{run_of(c, 'proposals')['place']}, {run_of(c, 'proposals')['model']['weights']} "
            f"weights, {c['cases']['proposals']['totes']} simulated test totes; "
            f"{cpu(c, 'proposals')}{busy(c['cases']['proposals'])}"
        ),
        f"python bench/rois.py {RUN}",
        "rois",
        f"[curve]({MORE}#proposals)",
        "proposals",
    ),
    Row(
        "a tote encoded once, instead of each crop again",
        once,
        lambda c: (
            f"{run_of(c, 'crops or tote')['place']}, {c['cases']['crops or tote']['picks']} "
            f"simulated test picks; {cpu(c, 'crops or tote')}{busy(c['cases']['crops or tote'])}"
        ),
        f"python bench/rois.py {RUN}",
        "rois",
        case="crops or tote",
    ),
    Row(
        "fixed cost and each instance's: masks, embedding, defects",
        instances,
        lambda c: (
            "small model, random weights, canvas 384 px; ± standard error of the slope, about 0: "
            f"below twice that; {cpu(c, 'instances')}{busy(c['cases']['instances'])}"
        ),
        "python bench/instances.py",
        "instances",
        f"[curves]({MORE}#instances-and-pixels)",
        "instances",
    ),
    *results_gallery.ROWS,
    *results_evaluation.ROWS,
    Row(
        "eight cameras on one backbone",
        cameras,
        cameras_conditions,
        "python bench/cameras.py",
        "cameras",
        "[how](docs/batching.md#what-sharing-runs-gains)",
    ),
    Row(
        "process start to the first verdict",
        startup,
        lambda c: f"random weights; medians of a few starts; {cpu(c, *started(c))}",
        "python bench/startup.py",
        "startup",
        case="small",
    ),
    Row(
        "memory of three nodes' use of one backbone against one's",
        memory,
        weights,
        "python bench/memory.py",
        "memory",
    ),
    Row(
        "ROS against the Perceiver alone, 1080p, one image at a time",
        ros("1080p"),
        "2 shared cores, CPU fp32, sketch backbone 192-d x 9 blocks; from `publish` to "
        "`detections` and `masks`; the aim is below x 1.10, "
        "[where the rest goes](docs/architecture.md#what-ros-costs)",
        "python bench/ros_overhead.py",
        "ros_overhead",
    ),
    Row(
        "the same, VGA", ros("VGA"), "the same run", "python bench/ros_overhead.py", "ros_overhead"
    ),
    Row(
        "simulated data, two processes: pictures of totes (six per drop), whole new totes, picks",
        simulated,
        "2 shared cores, no GPU, some 17 items per tote; a row is 2 to 14 jobs",
        "python bench/sim_rate.py",
        "sim_rate",
        "[more](docs/simulation.md#how-fast-it-is)",
    ),
    Row(
        "a colour histogram's recall@1 on simulated picks (goal: <= 35 %)",
        "27 %, chance 5 %",
        "44 test picks, manifests of 16 to 25",
        "robollm sim audit",
        more="[how hard it is](docs/simulation.md#how-hard-it-is)",
    ),
    Row(
        "training step of the small detector, bfloat16 against float32",
        training,
        "one thread of a shared AMD EPYC with avx512_bf16, 4 simulated totes at 320x256",
        "python bench/train_speed.py --data D --rounds 2",
        "train_speed",
    ),
    Row(
        "a study of losses, adapters, one encoder against three",
        "recall@1 .18 to .29 in a container (chance .06); no loss ahead of another",
        "minutes of training from random weights, 3 seeds, 202 simulated test picks",
        "python bench/train_study.py --data D --runs R",
        more="[json](results/train_study.json), "
        "[tables](docs/training.md#a-study-on-simulated-data)",
    ),
)
