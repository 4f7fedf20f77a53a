"""What `bundle.json` says about an exported bundle; docs/bundle.md explains every key."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robollm import __version__
from robollm.core.defects import ANY
from robollm.core.errors import ConfigError
from robollm.data.armbench_defects import LABELS
from robollm.data.armbench_files import is_simulated
from robollm.export.collect import MEAN, STD, Collected
from robollm.runtime.bundle import REFERENCE, Canvas
from robollm.runtime.card import OPSET, read_thresholds

Card = dict[str, Any]
DEFAULT_THRESHOLDS: Card = {
    "segmentation": {"score_min": 0.5, "mask_min": 0.5},
    "identification": {"accept": 0.6, "margin": 0.02, "temperature": 0.1},
    "defects": {"multi_pick": 0.5, "package_defect": 0.5, "temperature": 1.0},
    "over_views": {"multi_pick": ANY, "package_defect": ANY},
}
"""Nobody calibrated these: they are there so that a bundle runs."""


def describe(
    parts: Collected,
    *,
    name: str,
    graphs: Mapping[str, str],
    thresholds: Card,
    calibrated: str,
) -> Card:
    """The card of the reference variant alone, before anything was measured.

    Args:
        parts: from `collect`.
        name: the bundle's.
        graphs: role -> file.
        thresholds: whole.
        calibrated: what tells the thresholds' file apart; empty: they are the defaults.
    """
    from robollm.export.cascade_graph import default_proposals  # needs torch, a sketch doesn't

    return {
        "name": name,
        "version": __version__,
        "status": "trained" if parts.trained else "untrained",
        "graphs": dict(graphs),
        "variants": {REFERENCE: {}},
        "opset": OPSET,
        "input": {
            "channel_order": "rgb",
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "patch": parts.patch,
            "tote": _canvas(parts.tote),
            "crop": {**_canvas(parts.crop), "reference": parts.reference_crop},
        },
        "detector": {"proposals": default_proposals(parts.detector)},
        "adapters": list(parts.adapters),
        "identification": {"views": list(parts.views)},
        "embedding": {"dim": int(parts.identification.projection.out_features)},
        "labels": {"segmentation": list(parts.instance_labels), "defects": list(LABELS)},
        "thresholds": thresholds,
        "provenance": {
            "program": "robollm export",
            "robollm_version": __version__,
            "runs": [dict(run) for run in parts.runs],
            "trained_on": {
                task: {
                    **training_data(Path(str(settings.get("data_root", "")))),
                    **{k: settings[k] for k in ("subset", "views", "crop", "frames")
                       if k in settings},
                }
                for task, settings in parts.data.items()
            },
            "thresholds": {"calibrated": bool(calibrated), "sha256": calibrated or None},
            "refused_variants": {},
        },
        "metrics": {},
    }  # fmt: skip


def training_data(root: Path) -> Card:
    """Name and kind of the data of a training; without a kind if they are not there any more."""
    if not root.name or not root.is_dir():
        return {"data": root.name}
    simulated = any(is_simulated(folder) for folder in (root, root.parent))
    return {"data": root.name, "kind": "simulated" if simulated else "armbench"}


def _canvas(canvas: Canvas) -> Card:
    return {"height": canvas.hw[0], "width": canvas.hw[1], "fit": canvas.fit}


def load_thresholds(path: Path | None) -> tuple[Card, str]:
    """Thresholds for the card, and the digest of their file.

    Args:
        path: JSON, with keys as in `thresholds` of `bundle.json`; what it doesn't say is as in
            `DEFAULT_THRESHOLDS`. None: all defaults.

    Returns:
        The thresholds, and 64 hex digits, or "" without a file.

    Raises:
        ConfigError: the file is missing or not JSON, or a key or value is not one.
    """
    out = copy.deepcopy(DEFAULT_THRESHOLDS)
    if path is None:
        return out, ""
    try:
        raw = path.read_bytes()
        given = json.loads(raw)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is not readable JSON: {e}", fix="correct --thresholds") from e
    fix = "take `thresholds` of a bundle.json as a pattern"
    if not isinstance(given, dict) or not all(isinstance(v, dict) for v in given.values()):
        raise ConfigError(f"{path} is no object of objects", fix=fix)
    for task, values in given.items():
        strange = sorted(set(values) - set(out.get(task, {})))
        if task not in out or strange:
            raise ConfigError(
                f"{path}: there is no threshold {task}{'.' + strange[0] if strange else ''}",
                fix=fix,
            )
        out[task] |= values
    try:
        read_thresholds(out, LABELS)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{path}: {e}", fix=fix) from e
    return out, hashlib.sha256(raw).hexdigest()
