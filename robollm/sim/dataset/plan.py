"""What a dataset shall be, and the jobs that make it. Pure: the same settings, the same jobs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cv2

from robollm import __version__
from robollm.core.config import check, option
from robollm.core.errors import ConfigError
from robollm.data.armbench_segmentation import MIX, SAME_OBJECT, ZOOMED_OUT
from robollm.sim.world import SPLITS, Split

FORMAT = "robollm-dataset"
FORMAT_VERSION = 1
TASKS = ("segmentation", "identification", "defects", "videos")
Event = Literal["nominal", "multi_pick", "open", "deconstruction"]
EVENTS: tuple[Event, ...] = ("nominal", "multi_pick", "open", "deconstruction")
REFERENCES = 6  # pictures per product, as ARMBench has at most

_TRANSFER = (0.1, 0.1, 0.8)  # of the transfer sets: they are there to be tested on
_BYTES_PER_PX = 0.4  # of a noisy JPEG at quality 95
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSettings:
    """All that a dataset's bytes depend on, besides the version of robollm."""

    seed: int = option(7, "same seed, same dataset", low=0, high=2**31 - 1)
    totes: int = option(2000, "drops of items into a tote", low=0, high=1_000_000)
    variants: int = option(6, "pictures of one drop: cameras, lights, items taken out", low=1, high=50)  # fmt: skip  # noqa: E501
    picks: int = option(1500, "picks out of a tote", low=0, high=1_000_000)
    products: int = option(600, "products of all splits together", low=30, high=100_000)
    size: str = option("384x288", "WIDTHxHEIGHT of a tote picture, px")
    view_size: str = option("288x288", "WIDTHxHEIGHT of pre-pick, post-pick and reference pictures")
    max_items: int = option(40, "most items in one tote", low=3, high=40)
    manifest: int = option(20, "products in most containers; a third has 2 to 100", low=2, high=100)
    zoomed_out: float = option(0.1, "share of totes seen by the other station", low=0, high=1)
    same_object: float = option(0.1, "share of totes with copies of one product", low=0, high=1)
    multi_pick: float = option(0.2, "share of picks with a second product", low=0, high=1)
    package_defect: float = option(0.2, "share of picks with a damaged package", low=0, high=1)
    videos: float = option(0.05, "share of picks that become a video (task `videos`)", low=0, high=1)  # fmt: skip  # noqa: E501
    val: float = option(0.1, "share of validation among mixed totes, picks, products", low=0, high=0.4)  # fmt: skip  # noqa: E501
    test: float = option(0.2, "share of test among mixed totes, picks, products", low=0, high=0.5)
    renderer: str = option("mujoco", "who draws", choices=("mujoco", "cycles"))
    task: tuple[str, ...] = option(TASKS[:3], f"what to write: {', '.join(TASKS)}; repeatable")
    split: tuple[str, ...] = option(SPLITS, f"splits to make: {', '.join(SPLITS)}; the others stay empty; repeatable")  # fmt: skip  # noqa: E501

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: names every bad field.
        """
        check(self)
        unknown = sorted(set(self.task) - set(TASKS))
        if unknown or not self.task:
            raise ConfigError(
                f"task is {', '.join(unknown) or 'empty'}", fix=f"choose from {', '.join(TASKS)}"
            )
        unknown = sorted(set(self.split) - set(SPLITS))
        if unknown or not self.split:
            raise ConfigError(
                f"split is {', '.join(unknown) or 'empty'}", fix=f"choose from {', '.join(SPLITS)}"
            )
        if self.zoomed_out + self.same_object > 1 or self.multi_pick + self.package_defect > 1:
            raise ConfigError(
                "zoomed_out + same_object and multi_pick + package_defect are shares of one whole",
                fix="make each pair sum to 1 or less",
            )
        for name in ("size", "view_size"):
            parse_size(getattr(self, name), name)

    @property
    def hw(self) -> tuple[int, int]:
        """(height, width) of a tote picture, px."""
        return parse_size(self.size, "size")

    @property
    def view_hw(self) -> tuple[int, int]:
        """(height, width) of the other pictures, px."""
        return parse_size(self.view_size, "view_size")


@dataclass(frozen=True, slots=True)
class Job:
    """One drop, one pick or one product's references: a unit of work that is done or not.

    `subset` is of totes, `event` and `video` of picks.
    """

    kind: Literal["tote", "pick", "product"]
    index: int
    split: Split
    subset: str = ""
    event: Event = "nominal"
    video: bool = False

    @property
    def key(self) -> str:
        """The name of its record."""
        return f"{self.kind}-{self.index:07d}"


def parse_size(text: str, name: str = "size") -> tuple[int, int]:
    """Return (height, width) of "WIDTHxHEIGHT".

    Raises:
        ConfigError: if it isn't that, or a side is not 64 to 4096 px.
    """
    found = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (64 <= width <= 4096 and 64 <= height <= 4096):
        raise ConfigError(
            f"{name} is {text!r}, want WIDTHxHEIGHT with 64 to 4096 px", fix="for example 640x480"
        )
    return height, width


def identity(settings: DatasetSettings, fonts: Mapping[str, str]) -> dict[str, Any]:
    """What makes two datasets the same one: format, versions, settings, fonts."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "robollm": __version__,
        "opengl": os.environ.get("MUJOCO_GL", "osmesa"),
        **{name: importlib.metadata.version(name) for name in ("mujoco", "numpy", "pillow")},
        "opencv": cv2.__version__,
        "fonts": dict(fonts),
        "settings": {k: list(v) if isinstance(v, tuple) else v
                     for k, v in dataclasses.asdict(settings).items()},
    }  # fmt: skip


def split_counts(count: int, val: float, test: float) -> dict[Split, int]:
    """Cut `count` into the three splits; each gets one if there are three or more."""
    least = 1 if count >= 3 else 0
    n_val = max(round(count * val), least if val else 0)
    n_test = max(round(count * test), least if test else 0)
    return {"train": count - n_val - n_test, "val": n_val, "test": n_test}


def product_counts(settings: DatasetSettings) -> dict[Split, int]:
    """How many products each split's catalogue has."""
    return split_counts(settings.products, settings.val, settings.test)


def _share(index: int, share: float) -> bool:
    """True for `share` of all indices, evenly spread."""
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def plan(settings: DatasetSettings) -> tuple[Job, ...]:
    """Every job of a dataset, the kinds mixed evenly so that an estimate of the time holds."""
    totes, picks, products = _totes(settings), _picks(settings), _products(settings)
    ranked = [
        ((job.index + 0.5) / len(jobs), order, job)
        for order, jobs in enumerate((products, picks, totes))
        for job in jobs
        if job.split in settings.split
    ]
    return tuple(job for _, _, job in sorted(ranked, key=lambda r: r[:2]))


def _totes(s: DatasetSettings) -> list[Job]:
    if "segmentation" not in s.task:
        return []
    zoomed, same = round(s.totes * s.zoomed_out), round(s.totes * s.same_object)
    jobs: list[Job] = []
    for subset, count, val, test in (
        (MIX, s.totes - zoomed - same, s.val, s.test),
        (ZOOMED_OUT, zoomed, _TRANSFER[1], _TRANSFER[2]),
        (SAME_OBJECT, same, _TRANSFER[1], _TRANSFER[2]),
    ):
        counts = split_counts(count, val, test)
        for split in SPLITS:
            jobs += [Job("tote", len(jobs) + i, split, subset) for i in range(counts[split])]
    return jobs


def _picks(s: DatasetSettings) -> list[Job]:
    if not set(s.task) - {"segmentation"}:
        return []
    jobs: list[Job] = []
    counts = split_counts(s.picks, s.val, s.test)
    for split in SPLITS:
        seen: dict[str, int] = dict.fromkeys(EVENTS, 0)
        for i in range(counts[split]):
            event = _event(s, seen, i)
            # A video is never of a multi-pick: ARMBench's videos have no such label.
            film = "videos" in s.task and event != "multi_pick" and _share(seen[event], s.videos)
            seen[event] += 1
            jobs.append(Job("pick", len(jobs), split, event=event, video=film))
    return jobs


def _event(s: DatasetSettings, seen: dict[str, int], index: int) -> Event:
    """The event of a split's next pick: the shares hold in every stretch of picks."""
    defects = s.multi_pick + s.package_defect
    if not _share(index, defects):
        return "nominal"
    number = seen["multi_pick"] + seen["open"] + seen["deconstruction"]
    if _share(number, s.multi_pick / defects):
        return "multi_pick"
    return "open" if seen["open"] <= seen["deconstruction"] else "deconstruction"


def _products(s: DatasetSettings) -> list[Job]:
    if "identification" not in s.task:
        return []
    splits = [split for split, n in product_counts(s).items() for _ in range(n)]
    return [Job("product", i, split) for i, split in enumerate(splits)]


def pictures(settings: DatasetSettings, job: Job) -> int:
    """How many pictures a job makes, about; for the estimates."""
    if job.kind == "tote":
        return settings.variants
    return REFERENCES if job.kind == "product" else 6 + 24 * job.video


def disk_bytes(settings: DatasetSettings, jobs: tuple[Job, ...]) -> int:
    """How much room the jobs' files need, about; rather too much than too little."""
    tote = settings.hw[0] * settings.hw[1] * _BYTES_PER_PX + 20_000
    view = settings.view_hw[0] * settings.view_hw[1] * _BYTES_PER_PX + 8_000
    return int(sum(pictures(settings, j) * (tote if j.kind == "tote" else view) for j in jobs))


def name_of(settings: DatasetSettings, job: Job, variant: int = 0, *, length: int = 10) -> str:
    """A name like ARMBench's image ids, of 0-9 A-Z, that tells nothing about the picture."""
    number = _number(settings, job, variant)
    return "".join(_ALPHABET[number // 36**k % 36] for k in range(length))


def induct_of(settings: DatasetSettings, job: Job) -> str:
    """An induct id of 21 digits, the first one not 0."""
    return str(10**20 + _number(settings, job, 0) % (9 * 10**20))


def _number(settings: DatasetSettings, job: Job, variant: int) -> int:
    text = f"{FORMAT}/{FORMAT_VERSION}/{settings.seed}/{job.kind}/{job.index}/{variant}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
