"""What a model card is written from: training runs, evaluation runs, cards of datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robollm.core.errors import EvalError
from robollm.eval.figures import Metrics
from robollm.eval.records import Json
from robollm.eval.run_folder import RunFolder
from robollm.runtime.bundle import Bundle

_PATH = re.compile(r"(?<![\w./:])(?:~|\.{1,2})?/(?:[^\s/'\",:;=)]+/)*([^\s/'\",:;=)]+)/?")
"""An absolute or explicitly relative path; its last part stays."""


@dataclass(frozen=True, slots=True)
class TrainRun:
    """A run folder of `robollm train`.

    Attributes:
        name: the folder's.
        card: `run.json`.
        rows: of `metrics.jsonl`.
    """

    name: str
    card: Json
    rows: tuple[Json, ...]

    @property
    def steps(self) -> int:
        """The last step that was noted."""
        return max((int(r["step"]) for r in self.rows), default=0)

    @property
    def hours(self) -> float:
        """Time of training alone, without validations, by the steps' own clock."""
        seconds, before = 0.0, 0
        for row in self.rows:
            if "seconds_per_step" in row:
                seconds += float(row["seconds_per_step"]) * max(int(row["step"]) - before, 0)
                before = int(row["step"])
        return seconds / 3600

    @property
    def commands(self) -> list[str]:
        """Each command once, in order, without this machine's folders."""
        said = (str(start.get("command", "")) for start in self.card.get("starts", ()))
        return list(dict.fromkeys(bare(c) for c in said if c))


@dataclass(frozen=True, slots=True)
class EvalRun:
    """A scored run of `robollm eval` with the bundle.

    Attributes:
        title: name and split of its data, made unique.
        run: its records.
        metrics: its figures.
        note: how its bundle differs from this one; empty: it is this one.
    """

    title: str
    run: RunFolder
    metrics: Metrics
    note: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset's card; `name` is its folder's, or the file's own."""

    name: str
    card: Json


def bare(text: str) -> str:
    """A text whose paths are cut down to their last part: no folder of a machine is told."""
    return _PATH.sub(r"\1", text)


def train_runs(sources: Sequence[Path]) -> list[TrainRun]:
    """Read run folders of training, or a file that keeps what such folders noted.

    Args:
        sources: folders of `robollm train`, and JSON files with a list of `record`s: what is left
            of runs whose folders are gone.

    Raises:
        EvalError: one is neither.
    """
    out: list[TrainRun] = []
    for source in sources:
        out += _recorded(source) if source.is_file() else [_read(source)]
    return out


def _read(folder: Path) -> TrainRun:
    card = _json(folder / "run.json", "a run folder of `robollm train`")
    if "starts" not in card:
        raise EvalError(
            f"{folder} is no run of training: run.json has no starts",
            fix="give folders of `robollm train` as --runs",
        )
    rows = []
    journal = folder / "metrics.jsonl"
    for line in journal.read_text("utf-8").splitlines() if journal.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a kill cut the line off
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return TrainRun(folder.resolve().name, card, tuple(rows))


_KEPT = ("task", "robollm", "seed", "parameters", "trained_parameters", "samples", "unpacked_from")
_OF_START = ("processes", "threads", "python", "packages")


def record(run: TrainRun) -> Json:
    """What is kept of a run: `train_runs` reads it again. Paths are cut, numbers to five digits."""
    starts = run.card["starts"]
    return {
        "run": run.name,
        **{k: run.card[k] for k in _KEPT if k in run.card},
        "commands": run.commands,
        "starts": len(starts),
        **{k: starts[-1][k] for k in _OF_START if k in starts[-1]},
        "steps": run.steps,
        "hours": round(run.hours, 3),
        "rows": [{k: _short(v) for k, v in row.items()} for row in run.rows],
    }


def _recorded(path: Path) -> list[TrainRun]:
    try:
        records = json.loads(path.read_text("utf-8"))
        if not isinstance(records, list):
            raise TypeError("want a list of runs")
        return [_from_record(one) for one in records]
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise EvalError(
            f"{path} is no record of training runs: {type(e).__name__}: {e}",
            fix="give folders of `robollm train`, or the file that was written of them",
        ) from e


def _from_record(one: Json) -> TrainRun:
    last = {k: one[k] for k in _OF_START if k in one}
    # each command once: that a run was started again with one of them is only counted
    starts = [{"command": c, **last} for c in one["commands"]] or [last]
    starts += [starts[-1]] * (int(one.get("starts", 0)) - len(starts))
    card = {**{k: one[k] for k in _KEPT if k in one}, "starts": starts}
    return TrainRun(str(one["run"]), card, tuple(dict(row) for row in one["rows"]))


def _short(value: Any) -> Any:
    """A number with five digits that count; anything else as it is."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def eval_runs(folders: Sequence[Path], bundle: Bundle) -> list[EvalRun]:
    """Read scored runs that were answered by a bundle.

    Raises:
        EvalError: one is no run, was not scored, or another bundle answered.
    """
    out: list[EvalRun] = []
    for folder in folders:
        run = RunFolder.open(folder)
        predictor = run.card["predictor"]
        same = run.card.get("embedding_sha256") == bundle.embedding_sha256
        if predictor["name"] != "bundle" or not same:
            raise EvalError(
                f"{folder} was answered by {predictor.get('bundle_name', predictor['name'])!r}, "
                f"whose weights are not those of {bundle.title}",
                fix="evaluate this bundle, and give that run",
            )
        data = run.card["data"]
        title = f"{data['name']}, {data['split']}"
        if any(one.title == title for one in out):
            title += f" ({folder.resolve().name})"
        out.append(EvalRun(title, run, Metrics.read(folder), _note(predictor, bundle)))
    return out


def _note(predictor: Mapping[str, Any], bundle: Bundle) -> str:
    said = str(predictor["sha256"])
    if said == bundle.sha256:
        return ""
    before = bundle.provenance.get("thresholds", {}).get("calibrated_from")
    if said == before:
        return (
            f"measured with this bundle before its thresholds were calibrated ({said[:12]}), so "
            "verdicts are those of then"
        )
    return (
        f"measured with another state of this bundle ({said[:12]}): embeddings are the same; "
        "detector, defects and thresholds may not be"
    )


def datasets(files: Iterable[Path]) -> list[Dataset]:
    """Read cards of datasets.

    Raises:
        EvalError: one is not JSON.
    """
    out = []
    for file in files:
        card = _json(file, "a dataset's card.json")
        name = file.resolve().parent.name if file.stem == "card" else file.stem
        out.append(Dataset(name, card))
    return out


def _json(file: Path, what: str) -> Json:
    try:
        card = json.loads(file.read_bytes())
    except (OSError, ValueError) as e:
        raise EvalError(f"{file} can't be read: {e}", fix=f"give {what}") from e
    if not isinstance(card, dict):
        raise EvalError(f"{file} is no card", fix=f"give {what}")
    return card
