"""A run's records to the decision values of its bundle, and these into the bundle's card."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robollm import __version__
from robollm.core.errors import CalibrationError, ConfigError, EvalError
from robollm.eval.records import Json
from robollm.eval.run_folder import RunFolder
from robollm.eval.thresholds import defects, identification, segmentation
from robollm.eval.thresholds.parts import Chosen, Wish
from robollm.export.writer import said_clearly, workplace
from robollm.runtime.bundle import Bundle, load_bundle

CARD, FILE = "bundle.json", "calibration.json"
PROGRAM = "robollm bundle calibrate"
FORMAT, FORMAT_VERSION = "robollm-calibration", 1
_TASKS: dict[str, Callable[[RunFolder, Json, Wish], Chosen]] = {
    "segmentation": segmentation.calibrate,
    "identification": identification.calibrate,
    "defects": defects.calibrate,
}


def refuse_split(split: str) -> None:
    """See that a split may choose something.

    Raises:
        ConfigError: it is the test split.
    """
    if split == "test":
        raise ConfigError(
            "split 'test' can't choose thresholds: figures on it would flatter the bundle",
            fix="use --split val; evaluate on test afterwards",
        )


def calibrate(run: RunFolder, folder: Path, wish: Wish) -> Json:
    """Choose every value that a run has data for; nothing is written.

    Figures are cross-fit: of two halves of the images, products or inducts, each chooses values
    that are measured on the other, so `held_out` is of all samples and none of them chose what it
    was measured with. The values for the card are then chosen on all.

    Args:
        run: of `robollm eval armbench` with this bundle, complete.
        folder: the bundle.
        wish: what to keep to.

    Returns:
        What `calibration.json` holds; the same records and wish give the same.

    Raises:
        ConfigError: the run is of the test split.
        EvalError: the run is not complete, or not of this bundle.
        CalibrationError: not one value can be chosen, or a wanted precision can't be had.
        ModelFileError: the bundle is damaged.
        GalleryError: the run's references are missing or damaged.
    """
    bundle = load_bundle(folder, allow_untrained=True)
    card = json.loads((folder / CARD).read_bytes())
    before, source = _answered(run, folder, card, bundle)
    about = run.card
    chosen = {task: make(run, before, wish) for task, make in _TASKS.items()}
    if not any(one.values for one in chosen.values()):
        why = "; ".join(f"{t}: {w}" for t, one in chosen.items() for w in {*one.kept.values()})
        raise CalibrationError(
            f"the run chooses nothing: {why}", fix="give a run with more samples, or train longer"
        )
    after = copy.deepcopy(before)
    for task, one in chosen.items():
        after[task] |= one.values
        if one.ways:
            after["over_views"] = dict(one.ways)
    data = about["data"]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "program": PROGRAM,
        "robollm_version": __version__,
        "bundle": {"name": card["name"], "version": card["version"], "sha256": source},
        "data": {k: data[k] for k in ("name", "split", "samples", "digest") if k in data},
        "settings": dict(about.get("settings", {})),
        "precision": about["predictor"].get("precision", ""),
        "wish": asdict(wish),
        "thresholds": after,
        "before": before,
        "kept": {f"{t}.{name}": why for t, one in chosen.items() for name, why in one.kept.items()},
        "loud": [line for one in chosen.values() for line in one.loud],
        "method": "held_out is cross-fit: each half was measured with values chosen on the other; "
        "the values themselves are chosen on all; limits are two-sided, 95 %",
        **{task: one.record for task, one in chosen.items()},
    }


def write(folder: Path, record: Mapping[str, Any]) -> str:
    """Put chosen values into a bundle's card, and the record beside it as `calibration.json`.

    The new card is verified with the bundle's files before it takes the old one's place, in one
    step. Galleries stay valid: no decision value is part of what makes an embedding.

    Args:
        folder: the bundle.
        record: of `calibrate`.

    Returns:
        The bundle's sha256 from now on.

    Raises:
        ModelFileError: the bundle is damaged, or can't be written; its card is as it was.
        EvalError: it is another bundle by now.
    """
    text = _text(record, 1)
    source, now = record["bundle"]["sha256"], load_bundle(folder, allow_untrained=True)
    if source not in (now.sha256, now.provenance.get("thresholds", {}).get("calibrated_from")):
        raise EvalError(
            f"{folder} holds {now.title} by now; the values were chosen for {source[:12]}",
            fix="calibrate again, and let nothing else write there meanwhile",
        )
    card = json.loads((folder / CARD).read_bytes())
    card["thresholds"] = record["thresholds"]
    card["provenance"] = {**card.get("provenance", {}), "thresholds": _provenance(record, text)}
    data = _text(card, 2)
    with workplace(folder) as place, said_clearly(folder):
        new = place / "new"
        new.mkdir()
        for name in card["files"]:
            (new / name).symlink_to((folder / name).resolve())
        for name, content in ((FILE, text), (CARD, data)):
            with (new / name).open("wb") as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
        bundle = load_bundle(new, allow_untrained=True)
        # The card goes last: it has the other one's digest.
        (new / FILE).replace(folder / FILE)
        (new / CARD).replace(folder / CARD)
    return bundle.sha256


def _provenance(record: Mapping[str, Any], text: bytes) -> Json:
    """What the card says about its thresholds."""
    wish = record["wish"]
    return {
        "calibrated": True,
        "sha256": hashlib.sha256(text).hexdigest(),
        "program": record["program"],
        "robollm_version": record["robollm_version"],
        "data": record["data"]["name"],
        "split": record["data"]["split"],
        "data_digest": record["data"].get("digest", ""),
        "samples": record["data"].get("samples", {}),
        "precision": record["precision"],
        "calibrated_from": record["bundle"]["sha256"],
        "before": record["before"],
        "wanted": {k: wish[k] for k in wish if k not in ("draws", "seed")},
        "kept": record["kept"],
        "at_fpr_limit": record["defects"].get("at_fpr_limit", {}),
        "held_out": {
            task: {
                name: [share["value"], share["low"], share["high"], share["cases"]]
                for name, share in record[task].get("held_out", {}).items()
                if isinstance(share, dict)
            }
            for task in _TASKS
        },
    }


def _answered(run: RunFolder, folder: Path, card: Json, bundle: Bundle) -> tuple[Json, str]:
    """Thresholds and sha256 of the bundle that answered: this one, or as it was before."""
    fix = f"evaluate this bundle: robollm eval armbench DATA --split val --bundle {folder} --out R"
    about = run.card
    predictor = about["predictor"]
    if about["source"] != "folder" or predictor["name"] != "bundle":
        raise EvalError(
            f"{run.path} is of source {about['source']!r} and predictor {predictor['name']!r}; "
            "want a folder's, answered by a bundle",
            fix=fix,
        )
    refuse_split(str(about["data"]["split"]))
    gaps = run.gaps()
    if gaps:
        raise EvalError(f"{run.path}: {'; '.join(gaps)}", fix="finish it with the same command")
    said = str(predictor["sha256"])
    known = bundle.provenance.get("thresholds", {})
    if said == bundle.sha256:
        return dict(card["thresholds"]), said
    if said == known.get("calibrated_from"):
        return dict(known["before"]), said
    raise EvalError(
        f"{run.path} was answered by bundle {predictor['bundle_name']!r} ({said[:12]}), not by "
        f"{bundle.title}",
        fix=fix,
    )


def _text(value: Mapping[str, Any], indent: int) -> bytes:
    keys = indent == 2  # the card as the export writes it
    text = json.dumps(value, indent=indent, sort_keys=keys, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"
