"""The reference pictures of what an induct should have been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robollm.core.errors import ConfigError
from robollm.data import armbench_identification
from robollm.data.armbench_defects import LABELS, Image
from robollm.data.armbench_defects_scan import read_products
from robollm.data.problems import Problems


class References:
    """Finds the reference pictures of inducts.

    An induct's product is that of its annotation, or else of `truth.jsonl` (our simulator's), or
    else of the pick with the same id in ARMBench's identification folder. ARMBench's defect images
    don't name a product, so there only the third way can work.

    Args:
        folder: holds `truth.jsonl` and `armbench-object-id-0.1`.
        inducts: induct -> its images.
        problems: gets `no_reference`, and `telling_references` if having one depends on the label:
            then a model can read the label from that alone.
    """

    def __init__(
        self, folder: Path, inducts: Mapping[str, Sequence[Image]], problems: Problems
    ) -> None:
        self._root = folder / armbench_identification.ROOT
        told = read_products(folder / "truth.jsonl", problems)
        self._files: dict[str, list[Path]] = {}
        self.sources = {"annotation": 0, "truth.jsonl": 0, "pick": 0, "none": 0}
        products: dict[str, list[Path]] = {}
        for induct, images in inducts.items():
            product = self._product(induct, images, told, problems)
            if product and product not in products:
                products[product] = armbench_identification.references(self._root, product)
            self._files[induct] = products.get(product, [])
            if not self._files[induct]:
                seen = f"product {product} has no picture" if product else "no product is known"
                problems.note(
                    "no_reference", f"induct {induct}", f"{seen} in {self._root}", "without one"
                )
        self._compare(inducts, problems)

    def _product(
        self,
        induct: str,
        images: Sequence[Image],
        told: Mapping[str, str],
        problems: Problems,
    ) -> str:
        """The product of an induct; "" if nothing tells it."""
        source, product = "annotation", next((i.product for i in images if i.product), "")
        if not product:
            source, product = "truth.jsonl", told.get(induct, "")
        if not product and (self._root / "Picks" / induct / "annotation.json").is_file():
            source = "pick"
            try:
                product = armbench_identification.read_pick(self._root, induct).truth
            except ConfigError as e:
                problems.note("bad_json", f"pick {induct}", e.what, "no product")
        self.sources[source if product else "none"] += 1
        return product

    def _compare(self, inducts: Mapping[str, Sequence[Image]], problems: Problems) -> None:
        share: dict[str, float] = {}
        for label in LABELS:
            has = [
                bool(self._files[induct])
                for induct, images in inducts.items()
                for image in images
                if image.label == label
            ]
            if has:
                share[label] = sum(has) / len(has)
        if share and max(share.values()) - min(share.values()) > 0.1:
            what = ", ".join(f"{label} {100 * s:.0f} %" for label, s in share.items())
            problems.note(
                "telling_references",
                self._root,
                f"images with a reference: {what}; its presence tells the label",
                "used nevertheless",
            )

    def of(self, induct: str) -> list[Path]:
        """The reference pictures of an induct's product; none is possible."""
        return self._files[induct]
