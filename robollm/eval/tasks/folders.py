"""Where ARMBench's tasks lie under a folder that somebody gave: what is found, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robollm.core.errors import ConfigError
from robollm.data.armbench_defects import IMAGE_ROOT, VIDEO_ROOT, read_list
from robollm.data.armbench_files import is_simulated
from robollm.data.armbench_identification import ROOT as PICK_ROOT
from robollm.data.armbench_identification import SPLIT_FILE, read_split
from robollm.data.armbench_segmentation import ROOT as TOTE_ROOT
from robollm.data.armbench_segmentation import SUBSETS

SPLITS = ("test", "val", "train")
TASKS = ("segmentation", "identification", "defects", "videos")
ROOTS = {
    "segmentation": TOTE_ROOT,
    "identification": PICK_ROOT,
    "defects": IMAGE_ROOT,
    "videos": VIDEO_ROOT,
}
_UP = 3
"""How many folders too deep somebody may be."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Attributes:
        root: the folder that file names are relative to.
        tasks: task -> its folder.
        subsets: segmentation's parts that are there, ARMBench's own first.
        missing: task, or segmentation/SUBSET -> what was looked for.
        broken: the same -> what its folder, which is there, lacks.
        kind: "simulated" (with the card of our simulator), "armbench" (folders of its names) or
            "other".
    """

    root: Path
    tasks: Mapping[str, Path]
    subsets: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    kind: str = "other"

    def lines(self) -> list[str]:
        """For people: what was found."""
        out = [f"found {task}: {folder}" for task, folder in self.tasks.items()]
        if self.subsets:
            out.append(f"segmentation has {', '.join(self.subsets)}")
        return out


def find(data: Path) -> Found:
    """Look for the tasks in a folder that holds ARMBench's folders, or in one of these.

    A folder counts for what is in it; its name may have another version's number.

    Raises:
        ConfigError: if there is no such folder, or nothing of ARMBench in it; one that is too deep
            or too high is told which to give.
    """
    if not data.is_dir():
        raise ConfigError(
            f"there is no folder {data}", fix="give the folder that holds ARMBench's folders"
        )
    data = data.absolute()
    tasks: dict[str, Path] = {}
    missing: dict[str, str] = {}
    broken: dict[str, str] = {}
    for task in TASKS:
        there = [folder for folder in _places(data, task) if folder.is_dir()]
        found = next((f for f in there if not _lack(task, f)), None)
        called = next((f for f in there if _is_called(task, f)), None)
        if found is not None:
            tasks[task] = found
        elif called is not None:
            broken[task] = f"{called} has {_lack(task, called)}"
        else:
            missing[task] = f"there is no {ROOTS[task]} in {data}"
    if not tasks:
        if broken:
            raise ConfigError("; ".join(broken.values()), fix="fetch what is missing")
        raise _nothing(data)
    own = len(tasks) == 1 and next(iter(tasks.values())) == data
    root = data.parent if own else data
    if own:
        missing = {}
    subsets: tuple[str, ...] = ()
    if "segmentation" in tasks:
        folder = tasks["segmentation"]
        subsets = tuple(_subsets(folder))
        for name in (n for n in SUBSETS if n not in subsets):
            part = f"segmentation/{name}"
            if (folder / name).is_dir():
                broken[part] = f"{folder / name} has no {', '.join(f'{s}.json' for s in SPLITS)}"
            else:
                missing[part] = f"there is no {folder / name}"
    return Found(root, tasks, subsets, missing, broken, _kind(root, tasks))


def splits_of(task: str, folder: Path, subset: str = "") -> list[str]:
    """The splits that a task's folder has a file of; identification has all or none."""
    if task == "identification":
        return list(SPLITS)
    if task == "segmentation":
        return [s for s in SPLITS if (folder / subset / f"{s}.json").is_file()]
    has = [s for s in SPLITS if (folder / f"{s}.csv").is_file()]
    return [*has, "val"] if "train" in has and "val" not in has else has


def check_split(task: str, folder: Path, split: str, subset: str = "") -> None:
    """Raise if a task has no such split.

    Raises:
        ConfigError: says which splits there are.
    """
    has = splits_of(task, folder, subset)
    if split not in has:
        raise ConfigError(
            f"{folder / subset} has no split {split!r}, it has {', '.join(has) or 'none'}",
            fix="choose one of these with --split, or fetch the missing file",
        )


def refuse_empty(task: str, folder: Path, split: str) -> None:
    """Raise if the list of a split names nobody: nothing is wrong with the data then.

    Args:
        task: "identification", "defects" or "videos".
        folder: of the task.
        split: of `SPLITS`.

    Raises:
        ConfigError: names the list, and the splits that have samples.
    """
    listed = _listed(task, folder)
    file, samples = listed[split]
    if samples:
        return
    others = [name for name, (_, count) in listed.items() if count]
    raise ConfigError(
        f"{file} lists nothing for split {split!r}; splits with samples: "
        f"{', '.join(others) or 'none'}",
        fix=f"choose --split {others[0]}" if others else "give data with samples",
    )


def _listed(task: str, folder: Path) -> dict[str, tuple[str, int]]:
    """Split -> the list it is made of, and how many that names."""
    if task == "identification":
        lists = read_split(folder)
        part = {"test": "testset", "val": "trainset", "train": "trainset"}
        return {s: (f"{folder / SPLIT_FILE}: {p}", len(lists[p])) for s, p in part.items()}
    files = {s: folder / f"{s}.csv" for s in SPLITS}
    ids = {s: set(read_list(file)) if file.is_file() else set() for s, file in files.items()}
    if not files["val"].is_file():
        files["val"], ids["val"] = files["train"], ids["train"]
    else:
        ids["train"] -= ids["val"]
    return {s: (str(files[s]), len(ids[s])) for s in SPLITS}


def _places(data: Path, task: str) -> Iterator[Path]:
    yield data / ROOTS[task]
    stem = ROOTS[task].rpartition("-")[0]
    yield from sorted(p for p in data.glob(f"{stem}-*") if p.is_dir())
    yield data


def _is_called(task: str, folder: Path) -> bool:
    return folder.name.startswith(ROOTS[task].rpartition("-")[0])


def _is(task: str, folder: Path) -> bool:
    return folder.is_dir() and not _lack(task, folder)


def _lack(task: str, folder: Path) -> str:
    """What a folder lacks to be the task's; empty: nothing."""
    if task == "segmentation":
        return "" if any(True for _ in _subsets(folder)) else "no subset with a split"
    if task == "identification":
        return "" if (folder / SPLIT_FILE).is_file() else f"no {SPLIT_FILE}"
    content = "videos" if task == "videos" else "data"
    if not (folder / content).is_dir():
        return f"no folder {content}"
    lists = [f"{s}.csv" for s in SPLITS]
    return "" if any((folder / name).is_file() for name in lists) else f"no {', '.join(lists)}"


def _subsets(folder: Path) -> Iterator[str]:
    """ARMBench's subsets first, then what else looks like one."""
    names = {p.name for p in folder.iterdir() if p.is_dir() and splits_of("segmentation", p)}
    yield from (name for name in SUBSETS if name in names)
    yield from sorted(names - {*SUBSETS})


def _kind(root: Path, tasks: Mapping[str, Path]) -> str:
    if is_simulated(root):
        return "simulated"
    named = all(_is_called(t, f) for t, f in tasks.items())
    return "armbench" if named else "other"


def _nothing(data: Path) -> ConfigError:
    """The error for a folder without any task; looks around for the one that is meant."""
    below = [p for p in sorted(data.iterdir()) if p.is_dir()]
    above = list(data.parents)[:_UP]
    for one in (*below, *above):
        if any(_is(t, f) for t in TASKS for f in _places(one, t) if f != one):
            where = "deep" if one in above else "high"
            return ConfigError(f"{data} is too {where}: ARMBench is in {one}", fix=f"give {one}")
    for one in (*below, *above):
        if any(_is(t, one) for t in TASKS):
            where = "deep" if one in above else "high"
            return ConfigError(f"{data} is too {where}: a task is in {one}", fix=f"give {one}")
    names = ", ".join(p.name for p in sorted(data.iterdir())[:5]) or "nothing"
    return ConfigError(
        f"nothing of ARMBench in {data}, which has {names}; want {', '.join(ROOTS.values())}",
        fix="give the folder that holds these, or one of them",
    )
