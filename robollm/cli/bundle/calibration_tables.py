"""What `robollm bundle calibrate` prints: values before and after, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robollm.cli.gallery.show import show, table
from robollm.core.defects import ANY

_TASKS = ("segmentation", "identification", "defects")
_PARTS = {"held_out": "held out", "on_all": "on what chose", "before": "before"}


def tell(record: Mapping[str, Any]) -> None:
    """Print the tables of a calibration."""
    values = table("value", "before", "now", "", right=("before", "now"), title="Decision values")
    for task in _TASKS:
        for name, now in record["thresholds"][task].items():
            why = record["kept"].get(f"{task}.{name}", "")
            told = f"stays: {why}" if why else ""
            values.add_row(f"{task}.{name}", f"{record['before'][task][name]:g}", f"{now:g}", told)
    old = record["before"].get("over_views", {})
    for name, now in record["thresholds"].get("over_views", {}).items():
        values.add_row(f"over_views.{name}", old.get(name, ANY), now, "")
    show(values)
    for task in _TASKS:
        part = record[task]
        if "held_out" in part:
            _shares(task, part)


def _shares(task: str, part: Mapping[str, Any]) -> None:
    rows = table("share", *_PARTS.values(), "cases", right=("cases",), title=_title(task, part))
    for name, now in part["held_out"].items():
        cells = [_cell(part[column].get(name)) for column in _PARTS]
        cases = str(now["cases"]) if isinstance(now, dict) else ""
        rows.add_row(name, *cells, cases)
    show(rows)


def _title(task: str, part: Mapping[str, Any]) -> str:
    counts = {
        "segmentation": ("images", "instances"),
        "identification": ("picks", "products"),
        "defects": ("inducts", "images"),
    }[task]
    told = ", ".join(f"{part[name]} {name}" for name in counts)
    return f"{task.capitalize()}: {told}; {part['by']}"


def _cell(share: Any) -> str:
    if isinstance(share, float | int):
        return f"{share:.3f}"
    if not share or share["value"] is None:
        return "-"
    if share["low"] is None:
        return f"{share['value']:.3f}"
    return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"
