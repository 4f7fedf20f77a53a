"""What a bundle's thresholds are, and what they cost."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robollm.eval.model_card.cells import interval, table
from robollm.eval.records import Json
from robollm.metrics.bootstrap import Interval
from robollm.runtime.bundle import Bundle

_UNITS = {"segmentation": "images", "identification": "picks", "defects": "inducts"}


def thresholds(card: Mapping[str, Any], calibration: Mapping[str, Any] | None) -> str:
    """Markdown: the decision values of a card, and what their calibration measured.

    Args:
        card: `bundle.json`.
        calibration: see `read_calibration`.
    """
    values = [
        [f"{task}.{name}", value if isinstance(value, str) else f"{value:g}"]
        for task, some in sorted(card["thresholds"].items())
        for name, value in some.items()
    ]
    told = [table(("value", "is"), values)]
    if calibration is None:
        known = card.get("provenance", {}).get("thresholds", {})
        why = (
            f"They come from a file of sha256 `{known.get('sha256', '')[:12]}`; what they cost is "
            "not known: its `calibration.json` is not in the folder."
            if known.get("calibrated")
            else "They were not calibrated on data."
        )
        return "\n\n".join([*told, f"**{why}**"])
    data = calibration["data"]
    told.append(
        f"Chosen by `{calibration['program']}` on {data['name']}, {data['split']}. Shares below "
        "are held out: each half of the samples was measured with values that the other half "
        "chose. Limits are two-sided, 95 %."
    )
    rows, how = [], []
    for task, unit in _UNITS.items():
        part: Json = calibration[task]
        for name, share in part.get("held_out", {}).items():
            if isinstance(share, dict) and share["value"] is not None:
                limits = _back(share["low"]), _back(share["high"])
                now = Interval(share["value"], *limits, share["cases"])
                rows.append([f"{task}: {name}", interval(now), f"{share['cases']:,}"])
        if part.get("by"):
            how.append(f"- {task} ({part.get(unit, 0):,} {unit}): {part['by']}")
    told += ["\n".join(how), table(("share", "held out", "cases"), rows)]
    loud = [f"- **{line}**" for line in calibration["loud"]]
    loud += [f"- {name} stays as it was: {why}" for name, why in calibration["kept"].items()]
    return "\n\n".join([*told, *(["\n".join(loud)] if loud else [])])


def _back(value: float | None) -> float:
    return math.nan if value is None else float(value)


def read_calibration(folder: Path, bundle: Bundle) -> Json | None:
    """A bundle's `calibration.json`; None: it has none, or one of other thresholds."""
    known = bundle.provenance.get("thresholds", {})
    file = folder / "calibration.json"
    if not known.get("calibrated") or not file.is_file():
        return None
    raw = file.read_bytes()
    if hashlib.sha256(raw).hexdigest() != known.get("sha256"):
        return None
    found: Json = json.loads(raw)
    return found
