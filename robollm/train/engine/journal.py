"""What a run writes as it goes: metrics.jsonl and .csv, curves.png, problems.txt, a bar."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from robollm.data.armbench_files import write_bytes
from robollm.data.problems import Problem, Problems
from robollm.train.engine.curves import draw_curves

METRICS, CSV, CURVES, PROBLEMS = "metrics.jsonl", "metrics.csv", "curves.png", "problems.txt"

_LINE_S = 30.0  # without a terminal: a line of progress after so many seconds


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read a run's metrics.jsonl; a line that was cut off by a kill is left out."""
    path = folder / METRICS
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


@HOOKS.register_module()
class CountProblems(Hook):  # type: ignore[misc]
    """Counts the samples of a validation that can't be read."""

    def __init__(self) -> None:
        self.problems = Problems()

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count."""
        self.problems.extend(data_batch["problems"])


@HOOKS.register_module()
class Journal(Hook):  # type: ignore[misc]
    """Writes down how a run goes.

    Args:
        folder: the run folder.
        every: steps that one line of metrics.jsonl sums up.
        title: for the curves and the progress bar.
        shown: validation metrics to tell and to draw; the files have all.
    """

    priority = "LOW"

    def __init__(
        self, folder: str, every: int = 20, title: str = "training", shown: Sequence[str] = ()
    ) -> None:
        self._folder = Path(folder)
        self._every = every
        self._shown = [f"val/{name}" for name in shown]
        self._title = title
        self._sums: dict[str, list[float]] = {}
        self._listed = Problems()  # found while lists were read, the same in every process
        self._met: dict[tuple[str, str], Problem] = {}  # found while samples were read
        self._rows: list[dict[str, Any]] = []
        self._bar: Progress | None = None
        self._begun = self._said = self._lap = 0.0
        self.first_step = 0
        self.cpu_seconds = 0.0
        self._cpu = 0.0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Start the clock of the step itself: forward, backward, update, without reading data."""
        self._cpu = time.process_time()

    @property
    def problems(self) -> Problems:
        """All that was wrong with the data so far, each place once; of all processes."""
        found = Problems()
        found.merge(self._listed)
        found.extend(self._met.values())
        return found

    def gather(self) -> None:
        """Share between processes what samples were found bad; every process calls this."""
        for part in all_gather_object(self._met):
            self._met.update(part)

    def _meet(self, problems: Sequence[Problem]) -> None:
        self._met.update({(p.kind, p.where + p.what): p for p in problems})

    def before_save(self, runner: Any) -> None:
        """Before a checkpoint: it has the problems of all processes."""
        self.gather()

    def before_train(self, runner: Any) -> None:
        """Go on where the checkpoint was: what was written after it belongs to nobody now."""
        self._rows = [r for r in read_metrics(self._folder) if r["step"] <= runner.iter]
        for loader in (runner.train_dataloader, getattr(runner.val_loop, "dataloader", None)):
            found = getattr(getattr(loader, "dataset", None), "problems", None)
            if isinstance(found, Problems):
                for kind, count in found.counts.items():
                    self._tell(f"data: {count} x {kind}, see {PROBLEMS}")
                self._listed.merge(found)
        self._write()
        self._begun = self._said = self._lap = time.monotonic()
        self.first_step = runner.iter
        console = Console(stderr=True)
        if is_main_process() and console.is_terminal:
            text = TextColumn("{task.fields[note]}")
            columns = (TextColumn(self._title), BarColumn(), MofNCompleteColumn(), text)
            self._bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(),
                                 console=console, speed_estimate_period=300)  # fmt: skip
            self._bar.add_task("", total=runner.max_iters, completed=runner.iter, note="")
            self._bar.start()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Sum up; now and then write."""
        self.cpu_seconds += time.process_time() - self._cpu
        step = batch_idx + 1
        self._meet(data_batch["problems"])
        prefix = f"{data_batch['task']}/" if data_batch["task"] else ""
        for key, value in (outputs or {}).items():
            self._sums.setdefault(prefix + key, []).append(
                float(value.detach() if isinstance(value, Tensor) else value)
            )
        norm = runner.message_hub.log_scalars.get("train/grad_norm")
        if norm is not None:
            self._sums.setdefault("grad_norm", []).append(float(norm.current()))
        if step % self._every == 0 or step == runner.max_iters:
            now = time.monotonic()
            steps = max(1, step - (self._rows[-1]["step"] if self._rows else self.first_step))
            row: dict[str, Any] = {"step": step, "epoch": step / runner.train_loop.epoch_steps}
            row |= {k: sum(v) / len(v) for k, v in self._sums.items()}
            row["lr"] = max(runner.optim_wrapper.get_lr()["lr"])
            row["seconds_per_step"] = (now - self._lap) / steps
            self._lap = now
            self._sums.clear()
            self._add(row)
        self._say(runner, step)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """What was summed up since the last line belongs to the next, also after a restart."""
        checkpoint["journal"] = {key: list(values) for key, values in self._sums.items()}
        checkpoint["problems"] = [(p.kind, p.where, p.what, p.action) for p in self._met.values()]

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on summing up."""
        if runner._resume:
            self._sums = {key: list(v) for key, v in checkpoint.get("journal", {}).items()}
            self._meet([Problem(*one) for one in checkpoint.get("problems", ())])

    def _say(self, runner: Any, step: int) -> None:
        loss = [v for r in self._rows[-1:] for k, v in r.items() if k.split("/")[-1] == "loss"]
        note = f"loss {sum(loss) / len(loss):.4f}" if loss else ""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, note=note)
            return
        now = time.monotonic()
        if now - self._said > _LINE_S or step == runner.max_iters:
            self._said = now
            left = (now - self._begun) / max(1, step - self.first_step) * (runner.max_iters - step)
            self._tell(f"step {step}/{runner.max_iters}, {note}, {left / 60:.1f} min left")

    def _tell(self, line: str) -> None:
        if is_main_process():
            Console(stderr=True).print(f"{self._title}: {line}", highlight=False, soft_wrap=True)

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count what could not be read."""
        self._meet(data_batch["problems"])

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the metrics and draw the curves."""
        found = {f"val/{k}": float(v) for k, v in (metrics or {}).items()}
        self._add({"step": runner.iter, **found})
        self._lap = time.monotonic()
        shown = ", ".join(f"{k.removeprefix('val/')} {found[k]:.4f}" for k in self._shown
                          if k in found)  # fmt: skip
        self._tell(f"step {runner.iter}/{runner.max_iters}, validation: {shown}")
        self.gather()
        self._write()

    def after_train(self, runner: Any) -> None:
        """Draw once more, and end the bar."""
        self.gather()
        self._write()
        self.close()

    def close(self) -> None:
        """End the progress bar, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _add(self, row: dict[str, Any]) -> None:
        row = {
            k: (v if not isinstance(v, float) or math.isfinite(v) else None) for k, v in row.items()
        }
        self._rows.append(row)
        if is_main_process():
            with (self._folder / METRICS).open("a") as file:
                file.write(json.dumps(row) + "\n")

    def _write(self) -> None:
        if not is_main_process():
            return
        text = "".join(json.dumps(r) + "\n" for r in self._rows)
        write_bytes(self._folder / METRICS, text.encode())
        _write_csv(self._folder / CSV, self._rows)
        draw_curves(self._folder / CURVES, self._rows, self._title, self._shown)
        problems = self.problems
        lines = [f"{n} x {kind}" for kind, n in problems.counts.items()]
        lines += ["", *problems.lines()] if lines else ["none"]
        write_bytes(self._folder / PROBLEMS, ("\n".join(lines) + "\n").encode())


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    keys = list(dict.fromkeys(k for row in rows for k in row)) or ["step"]
    part = path.with_name(f".{path.name}.tmp")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
