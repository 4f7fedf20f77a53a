"""What others have published on ARMBench, as printed, with where it stands.

Sources: [1] Mitash et al., ARMBench: An Object-centric Benchmark Dataset for Robotic Manipulation,
ICRA 2023, arXiv 2303.16382. [2] Long et al., RoboLLM: Robotic Vision Tasks Grounded on Multimodal
Large Language Models, ICRA 2024, arXiv 2310.10221, as printed again in Z. Long's thesis, chapter 8,
tables 8.1 to 8.3 and figure 8.5. `None` is a figure that nobody printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Value = float | None

SOURCES = (
    "[1] Mitash et al., ARMBench, ICRA 2023, arXiv 2303.16382",
    "[2] Long et al., RoboLLM, ICRA 2024, arXiv 2310.10221; tables 8.1–8.3 and figure 8.5 of the "
    "thesis",
)


@dataclass(frozen=True, slots=True)
class Model:
    """One published model's column of a table.

    Attributes:
        name: as it is printed.
        source: "[1]" or "[2]".
        note: what it must not be compared without.
        values: row of the table -> figure, in the table's own unit.
    """

    name: str
    source: str
    note: str
    values: dict[str, float]

    def get(self, row: str) -> Value:
        """The figure of a row, or None if nobody printed it."""
        return self.values.get(row)


SUBSETS = {
    "mix-object-tote": "Mixed object tote",
    "zoomed-out-tote-transfer-set": "Zoomed-out tote",
    "same-object-transfer-set": "Same object tote",
}
"""ARMBench's folders -> the thesis' words, in its order."""


def in_order(subsets: Sequence[str]) -> list[str]:
    """Subsets in the thesis' order; those that it doesn't know behind."""
    known = list(SUBSETS)
    return sorted(subsets, key=lambda s: (known.index(s) if s in known else len(known), s))


def _segmentation(values: str) -> dict[str, float]:
    names = [f"{subset}/mAP{iou}" for subset in SUBSETS for iou in (50, 75)]
    return dict(zip(names, map(float, values.split()), strict=True))


TABLE_8_1 = (
    Model(
        "ResNet50",
        "[1]",
        "Mask R-CNN; AP is the mean over Tote and Object (two_class).",
        _segmentation(".72 .61 .25 .19 .11 .10"),
    ),
    Model(
        "RoboLLM",
        "[2]",
        "BEiT-3 Base; every category counts as one (class_agnostic).",
        _segmentation(".82 .67 .57 .45 .15 .13"),
    ),
)
"""Mask mAP at IoU .50 and .75, as a fraction. The transfer sets are zero-shot."""


def _identification(container: str, everything: str = "") -> dict[str, float]:
    """Read "N=1, N=3" of recall@1, @2, @3, as the thesis prints them; "-" is not printed."""
    found: dict[str, float] = {}
    for gallery, values in (("container", container), ("all", everything)):
        for k, pair in enumerate(values.split(","), 1):
            for views, value in zip(("n1", "n3"), pair.split(), strict=False):
                if value != "-":
                    found[f"{gallery}/{views}/{k}"] = float(value)
    return found


TABLE_8_2 = (
    Model("ResNet50-RMAC", "[1]", "", _identification("71.7 72.2, 81.9 82.9, 87.2 88.2")),
    Model("DINO-ViT-S", "[1]", "", _identification("77.2 79.5, 87.3 89.4, 91.6 93.5")),
    Model(
        "BEiT-3 Base",
        "[2]",
        "Not fine-tuned.",
        _identification("83.7 84.5, 83.8 -, 84.5 -"),
    ),
    Model(
        "RoboLLM",
        "[2]",
        "Its code counts the first k reference images (image), not products.",
        _identification("97.8 98.0, 97.9 98.1, 98.0 98.2", "74.6 78.2, 82.6 85.7, 85.3 89.1"),
    ),
)
"""recall@k in percent. The devkit [1] counts the first k unique products (product)."""


CROP_8_2 = "image"
"""What of a pick's pictures [1]'s devkit and [2]'s code embed: all, resized to 224 x 224 px."""


def _defects(values: str) -> dict[str, float]:
    names = [
        f"{defect}/{figure}"
        for defect in ("multi_pick", "package_defect", "combined")
        for figure in ("precision", "recall", "fpr")
    ]
    pairs = zip(names, values.split(), strict=True)
    return {name: float(value) for name, value in pairs if value != "-"}


TABLE_8_3 = (
    Model("ResNet50", "[1]", "", _defects("- .34 .05 - .73 .05 - .57 .05")),
    Model("RoboLLM-B", "[2]", "BEiT-3 Base.", _defects(".84 .98 .04 .94 .91 .04 .90 .94 .03")),
    Model("RoboLLM-L", "[2]", "BEiT-3 Large.", _defects(".82 1.00 .04 .89 .95 .03 .86 .97 .03")),
)
"""Per image, by argmax over three classes, as a fraction."""

DEFECT_GOAL = "ARMBench's goal is recall above 0.95 at FPR below 0.01; no published model meets it."

FIGURE_8_5 = {
    "under 5": {"ResNet50": 0.95, "RoboLLM": 0.95},
    "over 26": {"ResNet50": 0.38, "RoboLLM": 0.75},
}
"""mAP50 on mix-object-tote by instances per image: the values that the text beside figure 8.5
names, "approximately"."""
