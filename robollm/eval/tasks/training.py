"""What a run's bundle was trained on, in words, and whether that can be the data of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robollm.eval.records import Json

_OWN = ("data", "kind", "subset")


def learned_from(card: Json, task: str, subset: str = "") -> str:
    """One clause for a protocol line: on what, and whether it is the training split of these data.

    A bundle's card names its data by their folder and, if it was exported where they lie, by their
    kind. Neither is a digest: two datasets of one kind in folders of one name can't be told apart.
    So "training split" is said only where both agree, with how that is known.

    Args:
        card: of the run.
        task: of the bundle's training.
        subset: of segmentation; "" elsewhere.
    """
    learned = (card["predictor"].get("trained_on") or {}).get(task) or {}
    if not learned:
        return "what it was trained on is not known"
    subsets = _names(learned.get("subset"))
    what = str(learned.get("data") or "data that its card doesn't name")
    what += f" {' and '.join(subsets)}" if subsets else ""
    more = [f"{key} {_text(value)}" for key, value in learned.items() if key not in _OWN]
    what += f" with {', '.join(more)}" if more else ""
    foreign = bool(subset and subsets) and subset not in subsets
    verb = "zero-shot transfer from" if foreign else "trained on"
    relation = _relation(learned, card.get("data") or {})
    if relation == _SAME and not foreign:
        part = "this subset's training split" if subset else "the training split of these data"
        relation = f"{part}, by {relation}"
    return f"{verb} {what}" + (f": {relation}" if relation else "")


_SAME = "name and kind of the data"


def _relation(learned: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How the data of the training and those of the run belong together, as far as is known."""
    name, kind = learned.get("data"), learned.get("kind")
    if not name or not here.get("name"):
        return ""
    if name != here["name"]:
        return f"other data than these ({here['name']})"
    if not kind:
        return "these have the same name; whether they are the same data, its card doesn't tell"
    if kind != here.get("kind"):
        return f"{kind} data, these are {here.get('kind') or 'not known'}"
    return _SAME


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value or ())


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
