"""Which figures should rise, which should fall, and by which a comparison is decided."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

HEADLINE = (
    "object_only_mask_mAP50",
    "object_only_mask_mAP75",
    "recall@1_container_product_n1",
    "recall@1_container_product_n3",
    "image_combined_recall",
    "image_combined_fpr",
    "video_combined_recall",
    "video_combined_fpr",
    "recall@1_published",
    "identified_share",
    "identified_precision",
    "strangers_rejected",
    "verdict_combined_recall",
    "verdict_combined_fpr",
)
"""Few, because each further figure makes all of them harder to tell from chance."""
_NEITHER = re.compile(r"^chance@|(^|_)ece_floor(_|$)")
_FALLS = re.compile(
    r"(^|_)(fpr|ece|brier|nll)($|_[^@]*$)|false_reject|false_flag|false_accept|early_flags"
    r"|(frames|seconds)(_to_flag)?($|_)|uninspected|strangers_named|_ms(_|$)"
)
_RISES = re.compile(
    r"mAP|recall|precision|(^|_)(auc|auroc|ap|accuracy|f1)($|_)|flagged_share|identified_share|rejected"
)


def direction(figure: str) -> int:
    """1: more is better; -1: less is better; 0: neither, or nobody knows.

    Args:
        figure: a name in `metrics.json`.
    """
    if _NEITHER.search(figure):
        return 0
    if _FALLS.search(figure):
        return -1
    return 1 if _RISES.search(figure) else 0


def chosen(figure: str, patterns: tuple[str, ...]) -> bool:
    """Whether a figure decides: it is among `patterns`, or a headline if there are none."""
    return any(fnmatchcase(figure, p) for p in patterns or HEADLINE)
