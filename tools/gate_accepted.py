"""What was accepted: the bundle, the data, a finished run, and floors. Files in `gate/`.

`gate/floors.json` names bundle and data by digest and has a floor for each figure that decides;
`gate/baseline/` has the run: `run.json` and `metrics.json` to read, `run.zip` with its records and
its gallery, because `robollm eval compare` needs these.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import read_object, write_bytes, write_json
from robollm.eval.directions import chosen, direction
from robollm.eval.figures import Metrics
from robollm.eval.run_card import CARD

FLOORS, BASELINE, DATA, RECORDS = "floors.json", "baseline", "data", "run.zip"
FORMAT, FORMAT_VERSION = "robollm-gate", 1
FIGURES = (
    "object_only_mask_mAP",
    "object_only_mask_mAP50",
    "recall@1_container_product_n1",
    "recall@1_container_product_n3",
    "recall@1_all_product_n1",
    "auroc_n1",
    "image_multi_pick_auc",
    "image_package_defect_auc",
    "verdict_combined_recall",
    "verdict_combined_fpr",
)
"""Which figures decide. AUCs need no threshold, so they see less damage than a recall does; the
verdict is at the bundle's own thresholds, so it sees those move."""
_WHEN = (1980, 1, 1, 0, 0, 0)  # of every file in the archive: the same run gives the same bytes


class Floor(NamedTuple):
    """A figure as it was accepted; `limit`: the floor, or the ceiling of one that should fall."""

    value: float
    limit: float

    def broken(self, figure: str, now: float) -> bool:
        """Whether a value is on the wrong side; a missing one (NaN) is not judged here."""
        return direction(figure) * (now - self.limit) < 0


Floors = dict[tuple[str, str], Floor]
"""(section, figure) -> floor."""


class Accepted(NamedTuple):
    """What `floors.json` says: digests, and the floors."""

    bundle: Mapping[str, Any]
    data: str
    floors: Floors


def digest_of(folder: Path) -> str:
    """SHA-256 of names and bytes of all files under a folder.

    Raises:
        ConfigError: if there is none.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            f"there is no test set in {folder}",
            fix="python tools/gate_data.py --data DATASET --out gate/data, see docs/gate.md",
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def read_accepted(gate: Path) -> Accepted | None:
    """What was accepted; None: nothing yet.

    Raises:
        ConfigError: if the file is damaged.
    """
    if not (gate / FLOORS).is_file():
        return None
    card = read_object(gate / FLOORS)
    try:
        if (card["format"], card["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"format {card['format']} {card['format_version']}")
        floors = {
            (section, figure): Floor(float(row["value"]), float(row["limit"]))
            for section, rows in card["figures"].items()
            for figure, row in rows.items()
        }
        bundle = {**card["bundle"], "sha256": str(card["bundle"]["sha256"])}
        return Accepted(bundle, str(card["data"]["sha256"]), floors)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ConfigError(
            f"{gate / FLOORS} is damaged: {e!r}", fix="take it from git, or make gate-accept"
        ) from e


def floors_of(metrics: Metrics, old: Floors) -> Floors:
    """Floors of a run: the intervals' lower ends, or the old floors where these are stricter."""
    out: Floors = {}
    for section in metrics.sections:
        for figure, one in section.figures.items():
            sign = direction(figure)
            if not (sign and chosen(figure, FIGURES)) or math.isnan(one.low):
                continue
            limit = one.low if sign > 0 else one.high
            if before := old.get((section.name, figure)):
                limit = (max if sign > 0 else min)(limit, before.limit)
            out[section.name, figure] = Floor(one.value, limit)
    return out


def below(metrics: Metrics, floors: Floors) -> list[tuple[str, str, float, Floor]]:
    """Section, figure, value and floor of all that broke its floor."""
    values = {(s.name, f): one.value for s in metrics.sections for f, one in s.figures.items()}
    found = [(*name, values.get(name, math.nan), floor) for name, floor in floors.items()]
    return [row for row in found if row[3].broken(row[1], row[2])]


def write_accepted(gate: Path, run: Path, metrics: Metrics, floors: Floors, root: Path) -> int:
    """Write baseline and floors; the baseline first, so that a half-written one is not accepted.

    Args:
        gate: the gate's folder.
        run: the run folder that is accepted.
        metrics: of the run.
        floors: of the run.
        root: of the checkout: paths in the baseline are relative to it.

    Returns:
        How many bytes the baseline takes.
    """
    out = gate / BASELINE
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    text = (run / CARD).read_text()
    for place in (json.dumps(f"{root}/")[1:-1], json.dumps(str(root))[1:-1]):
        text = text.replace(place, "")
    write_bytes(out / CARD, text.encode())
    slim = [
        replace(s, curves={}, tables={}, histograms={}, worst=(), embeddings=None)
        for s in metrics.sections
    ]
    replace(metrics, sections=tuple(slim), baselines={}).write(out)
    with zipfile.ZipFile(out / RECORDS, "w", zipfile.ZIP_LZMA) as archive:
        for part in ("records", "gallery"):
            for file in sorted((run / part).glob("*")):
                name = zipfile.ZipInfo(f"{part}/{file.name}", _WHEN)
                archive.writestr(name, file.read_bytes(), zipfile.ZIP_LZMA)
    card = json.loads(text)["predictor"]
    kept = ("bundle_name", "version", "sha256", "precision", "provider")
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for (section, figure), floor in floors.items():
        figures.setdefault(section, {})[figure] = floor._asdict()
    accepted = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "bundle": {name: card.get(name) for name in kept},
        "data": {"sha256": digest_of(gate / DATA)},
        "figures": figures,
    }
    write_json(gate / FLOORS, accepted, indent=1)
    return sum(file.stat().st_size for file in out.iterdir())


def unpack(gate: Path, out: Path) -> Path:
    """The baseline as a run folder that `robollm eval compare` reads.

    Raises:
        ConfigError: if it is missing or damaged.
    """
    source = gate / BASELINE
    out.mkdir(parents=True)
    try:
        shutil.copy(source / CARD, out)
        with zipfile.ZipFile(source / RECORDS) as archive:
            archive.extractall(out)
    except (OSError, zipfile.BadZipFile, EOFError) as e:
        raise ConfigError(
            f"the baseline in {source} is missing or damaged: {e}",
            fix="take it from git, or make gate-accept",
        ) from e
    return out
