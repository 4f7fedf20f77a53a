"""Which picks a split has, and what they show."""

from __future__ import annotations

from pathlib import Path

from robollm.data import armbench_identification as armbench
from robollm.data.problems import Problems


def read_truths(
    root: Path, split: str, splits: armbench.Split, problems: Problems
) -> dict[str, str]:
    """Pick-ID -> true product, of a split's picks: the small file of each pick decides.

    Args:
        root: ARMBench's identification folder.
        split: "train", "val" or "test".
        splits: who learns and who is tested.
        problems: gets what is left out, or tested although it was learned.
    """
    learn = {*splits.products["train"], *splits.products["val"]}
    other = set() if split == "test" else learn - {*splits.products[split]}
    out: dict[str, str] = {}
    for name in splits.picks["test" if split == "test" else "train"]:
        truth = armbench.read_truth_or_note(root, name, problems)
        if truth is None or truth in other:
            continue
        pick = armbench.Pick(name, truth, (), {})
        if split != "test" and truth not in learn:
            what = "is no training or validation product"
            note(problems, "unlisted_product", root, pick, what, "skipped")
            continue
        if split == "test" and truth in learn:
            what = "is a training product"
            note(problems, "learned_product", root, pick, what, "tested all the same")
        out[name] = truth
    return out


def note(
    problems: Problems, kind: str, root: Path, pick: armbench.Pick, what: str, action: str
) -> None:
    """Note what is wrong with a pick's product."""
    problems.note(kind, root / "Picks" / pick.id, f"its product {pick.truth} {what}", action)
