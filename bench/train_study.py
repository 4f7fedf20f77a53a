"""Which loss, adapters or not, one encoder or three: a small study on a simulated dataset.

`python bench/train_study.py --data D --runs R` trains every row with three seeds, two runs of one
thread side by side, measures the checkpoint that validation chose on the test split (other
products, other inducts), and writes results/train_study.json. It goes on where it was stopped, and
`--report` only sums up what is there. Every row has its `robollm train` command.

Conditions that all rows share: the same encoder, steps, batches, augmentation and learning rate
within a group; what differs is in the row's name. Intervals are 95 % of Student's t over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "train_study.json"
SEEDS = (0, 1, 2)
STUDENT_T = {1: math.nan, 2: 12.706, 3: 4.303}  # 97.5 %, n - 1 degrees of freedom
LIBRARIES = ("torch", "mmdet", "onedl-mmengine", "numpy", "opencv-python-headless")
SHOWN = {
    "identification": ("recall@1_container", "recall@3_container", "recall@1_all"),
    "defects": ("mean_recall", "combined_auc"),
    "segmentation": ("object_only_mask_mAP50", "object_only_box_mAP50"),
}


@dataclass(frozen=True)
class Row:
    """One line of the study.

    Attributes:
        group: rows of a group are compared with each other.
        name: what is special about it.
        task: what is trained.
        config: its config.
        changes: `KEY=VALUE` of `--set`.
        init: `key` of the row whose first run the encoder starts from.
        seeds: one run each.
    """

    group: str
    name: str
    task: str
    config: str
    changes: tuple[str, ...] = ()
    init: str = ""
    seeds: tuple[int, ...] = SEEDS

    @property
    def key(self) -> str:
        """How `init` names it."""
        return f"{self.group}: {self.name}"

    @property
    def slug(self) -> str:
        """Its folder."""
        words = f"{self.group} {self.name}".lower()
        return "".join(c if c.isalnum() else "-" for c in words).strip("-")


def rows(steps: int) -> list[Row]:
    """All rows; `steps` of the loss rows, the others follow from it."""
    loss = "model.heads.identification.loss"
    kinds = {"InfoNCE": "", "LaCViT": "-lacvit", "CLCE": "-clce", "SCL-RHE": "-scl-rhe"}
    noise = ("0.0", "0.05", "0.2")
    out = []
    for (kind, part), wrong in itertools.product(kinds.items(), noise):
        out.append(
            Row(
                "losses",
                f"{kind}, {float(wrong):.0%} wrong labels",
                "identification",
                f"identification{part}_beit3-small_armbench",
                (*length(steps), f"train_dataloader.dataset.label_noise={wrong}"),
            )
        )
    out += [
        Row("similarity", f"InfoNCE, {transform}", "identification", "small",
            (*length(steps), f"{loss}.transform={transform}"))
        for transform in ("sine", "sigmoid", "sigmoid_shifted")
    ]  # fmt: skip
    few = 2 * steps // 5
    return [*out, *adapters(few), *backbones(few)]


ENCODER = "{'type': 'Beit3Encoder', 'variant': 'tiny', 'depth': 6, 'grid': 12}"
TOTES = (  # the detector of the study: small images, a schedule that fits any length
    "param_scheduler.0.end=0.05",
    "param_scheduler.1.begin=0.5",
    "param_scheduler.1.end=1.0",
    "custom_hooks=[]",
    f"model.backbone.encoder={ENCODER}",
    "model.neck.in_channels=128",
    "train_dataloader.dataset.canvas_hw=(192, 256)",
    "val_dataloader.dataset.canvas_hw=(192, 256)",
)
CROPS = {  # the same encoder, at the size of crops
    "identification": (
        f"model.encoder={ENCODER}",
        "train_dataloader.dataset.size=96",
        "val_dataloader.dataset.size=96",
        "model.heads.identification.dim=128",
    ),
    "defects": (
        f"model.encoder={ENCODER}",
        "train_dataloader.dataset.size=96",
        "val_dataloader.dataset.size=96",
        "model.heads.defects.in_channels=128",
    ),
}


def length(steps: int, validations: int = 4) -> tuple[str, ...]:
    """So many steps, validated so often."""
    return (f"train_cfg.max_steps={steps}", f"train_cfg.val_steps={max(1, steps // validations)}")


def adapters(steps: int) -> list[Row]:
    """What it costs not to train the encoder, when it starts as a detector's."""
    trunk = Row(
        "trunk", "detector", "segmentation", "small", (*length(6 * steps, 1), *TOTES), "", (0,)
    )
    ways = {
        "full fine-tuning": (),
        "MultiWay-Adapters": ("model.adapters={'extractor': 64, 'enhancer': 128}",),
        "head alone": ("model.frozen=True",),
    }
    task = "identification"
    same = (*length(steps, 2), *CROPS[task])
    out = [trunk]
    out += [Row("adapters", name, task, "small", (*same, *way), trunk.key)
            for name, way in ways.items()]  # fmt: skip
    return [*out, Row("adapters", "full, from random weights", task, "small", same)]


def backbones(steps: int) -> list[Row]:
    """One encoder for three tasks against three: the same encoder, steps and batches per task."""
    totes, others = 2 * steps, steps
    adam = (
        "optim_wrapper.optimizer.lr=5e-4",
        "optim_wrapper.amp=bfloat16",
        "optim_wrapper.optimizer.betas=(0.9, 0.99)",
        "optim_wrapper.clip_grad.max_norm=5.0",
    )
    wave = ("param_scheduler.0.end=0.05", "param_scheduler.1.begin=0.5")
    turns = f"{{'segmentation': {totes}, 'identification': {others}, 'defects': {others}}}"
    plans = "train_dataloader.batch_sampler.plans"
    joined = [
        f"model.encoder={ENCODER}",
        "model.heads.segmentation.neck.in_channels=128",
        "model.heads.identification.dim=128",
        "model.heads.defects.in_channels=128",
        "custom_hooks=[]",
        f"train_dataloader.batch_sampler.turns={turns}",
    ]
    for loader in ("train_dataloader", "val_dataloader"):
        part = f"{loader}.dataset.datasets"
        joined += [f"{part}.segmentation.canvas_hw=(192, 256)"]
        joined += [f"{part}.{task}.size=96" for task in CROPS]
    joined += [f"{plans}.identification.batch_size=32", f"{plans}.defects.batch_size=16"]
    group = "backbones"
    return [
        Row(group, "one for three tasks", "multitask", "small",
            (*length(totes + 2 * others, 1), *joined, *adam, *wave)),
        Row(group, "its own: segmentation", "segmentation", "small",
            (*length(totes, 1), *TOTES, *adam)),
        *(Row(group, f"its own: {task}", task, "small",
              (*length(others, 1), *CROPS[task], *adam, *wave)) for task in CROPS),
    ]  # fmt: skip


class Study:
    """Runs rows and sums them up."""

    def __init__(self, data: Path, runs: Path, steps: int) -> None:
        self.data, self.runs = data, runs
        self.rows = rows(steps)

    def folder(self, row: Row, seed: int) -> Path:
        """The run folder of a row's seed."""
        return self.runs / f"{row.slug}-{seed}"

    def command(self, row: Row, seed: int) -> list[str]:
        """The row's `robollm train`."""
        words = ["train", row.task, "--config", row.config, "--data", str(self.data),
                 "--out", str(self.folder(row, seed)), "--seed", str(seed), "--fresh"]  # fmt: skip
        for change in row.changes:
            words += ["--set", change]
        if row.init:
            start = next(r for r in self.rows if r.key == row.init)
            words += ["--init", str(self.folder(start, start.seeds[0]) / "best.pth")]
        return words

    def run(self, row: Row, seed: int) -> None:
        """Train and measure, unless that was done."""
        done = self.folder(row, seed) / "study.json"
        if done.is_file():
            return
        began = time.monotonic()
        trained = self._call(self.command(row, seed))
        measured = self._call(
            ["train", "evaluate", str(self.folder(row, seed)), "--data", str(self.data)]
        )
        for name in ("last.pth",):  # only the best is needed from here on
            (self.folder(row, seed) / name).unlink(missing_ok=True)
        done.write_text(json.dumps({"train": trained, "test": measured}))
        print(f"{row.group}: {row.name}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)

    def _call(self, words: list[str]) -> Any:
        program = [sys.executable, "-m", "robollm.cli.main", *words]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"{shlex.join(words)}\n{result.stderr[-2000:]}")
        return json.loads(result.stdout.strip().splitlines()[-1])

    def run_all(self, groups: Sequence[str], processes: int) -> None:
        """Run what is missing: first what others start from, seed by seed."""
        wanted = [r for r in self.rows if not groups or r.group in groups]
        for later in (False, True):
            jobs = [(r, s) for s in SEEDS for r in wanted if s in r.seeds and bool(r.init) == later]
            with ThreadPoolExecutor(processes) as pool:
                for one in [pool.submit(self.run, row, seed) for row, seed in jobs]:
                    one.result()

    def report(self) -> dict[str, Any]:
        """What is there, row by row."""
        groups: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            found = []
            for seed in row.seeds:
                path = self.folder(row, seed) / "study.json"
                if path.is_file():
                    found.append(json.loads(path.read_text()))
            if found:
                groups.setdefault(row.group, {})[row.name] = self._line(row, found)
        return groups

    def _line(self, row: Row, found: list[dict[str, Any]]) -> dict[str, Any]:
        tests = [f["test"]["metrics"] for f in found]
        values = {}
        for key in tests[0]:
            plain = key.rpartition("/")[2]
            if any(plain in names for names in SHOWN.values()):
                values[plain] = interval([t[key] for t in tests])  # no two tasks share a name
        trained = [f["train"] for f in found]
        command = shlex.join(["robollm", *self.command(row, 0)])
        for path, name in ((str(self.data), "DATA"), (str(self.runs), "RUNS")):
            command = command.replace(path, name)
        return {
            "command": command.replace("--seed 0 --fresh", "--seed SEED").replace("-0 ", "-SEED "),
            "seeds": len(found),
            "test": values,
            "trained_parameters": trained[0]["trained_parameters"],
            "steps": trained[0]["steps"],
            "cpu_s": interval([t["cpu_seconds"] for t in trained]),
            "cpu_s_per_step": interval([t["cpu_seconds_per_step"] for t in trained]),
            "peak_rss_mib": interval([t["peak_rss_mib"] for t in trained]),
        }


def interval(values: list[float]) -> dict[str, Any]:
    """Mean, half width of the 95 % interval, and the values."""
    n = len(values)
    half = STUDENT_T[n] * statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    return {
        "mean": round(statistics.fmean(values), 4),
        "half_width_95": None if half is None else round(half, 4),
        "values": [round(v, 4) for v in values],
    }


def conditions(data: Path) -> dict[str, Any]:
    """Machine, versions, data."""
    card = json.loads((data / "card.json").read_text())
    model = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return {
        "cpu": model[0].partition(":")[2].strip() if model else "unknown",
        "cores": os.cpu_count(),
        "threads_per_run": 1,
        "runs_side_by_side": 2,
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in LIBRARIES},
        "dataset": card["command"],
        "dataset_robollm": card["robollm"],
    }


def markdown(groups: dict[str, dict[str, Any]]) -> str:
    """The rows as tables; a value is mean ± half width of its interval."""
    out = []
    for group, lines in groups.items():
        keys = list(dict.fromkeys(k for line in lines.values() for k in line["test"]))
        head = ["row", *keys, "trained M", "ms of a step", "peak MiB"]
        out += ["", f"**{group}**", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for name, line in lines.items():
            cells = [name]
            for key in keys:
                value = line["test"].get(key)
                cells.append(plus_minus(value) if value else "")
            cells += [
                f"{line['trained_parameters'] / 1e6:.2f}",
                f"{1e3 * line['cpu_s_per_step']['mean']:.0f}",
                f"{line['peak_rss_mib']['mean']:.0f}",
            ]
            out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out[1:])


def plus_minus(value: dict[str, Any]) -> str:
    """Three digits, without the leading 0."""
    mean = f"{value['mean']:.3f}".removeprefix("0")
    half = value["half_width_95"]
    return mean if half is None else f"{mean} ± {half:.3f}".replace(" 0.", " .")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    study = Study(args.data, args.runs, args.steps)
    if not args.report:
        study.run_all(args.group, args.processes)
    groups = study.report()
    print(markdown(groups))
    OUT.write_text(
        json.dumps(
            {
                "command": "python bench/train_study.py --data DATA --runs RUNS "
                f"--steps {args.steps}",
                "conditions": conditions(args.data),
                "groups": groups,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
