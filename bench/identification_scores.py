"""Which way to compare a pick with a gallery finds more products: recall@1 of every combination.

`python bench/identification_scores.py --bundle B --data D`, results in identification_scores.json.
Pictures are real files of ARMBench's layout, queries go through the runtime, search is the exact
NumPy gallery. For every number of views and every gallery (the pick's container, all products):

- max: a product counts as much as its most similar reference; centroid: as their normalised mean;
- fused: one query of all views; views: each view asks for itself and the best counts.

`recall` is the share of picks whose first product is the true one, `at_least` and `at_most` its
95 % limits (two-sided; picks of one product count as one), `gain` its difference to max/fused on
the same picks, with 95 % limits of a bootstrap over products.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from kit import ROOT, Results, options, parse, told
from numpy.typing import NDArray

from robollm.core.frame import Frame
from robollm.core.fuse import our_views
from robollm.core.rates import at_least, at_most, independent
from robollm.core.settings import PickConfig, RuntimeConfig
from robollm.data.armbench_files import VIEWS
from robollm.data.armbench_identification import Pick, find_root, references
from robollm.data.armbench_picks import CROPS, outline_box, split_picks
from robollm.data.images import read_image
from robollm.data.problems import Problems
from robollm.gallery.base import ExactGallery
from robollm.runtime.naming import find
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import PickView
from robollm.runtime.pixels import Region

WAYS = tuple(f"{score}/{fusion}" for score in ("max", "centroid") for fusion in ("fused", "views"))
NUMBERS = (1, 3)
PLACES = ("container", "all")
CASES = [f"{n} of {way} in {place}" for n, place, way in product(NUMBERS, PLACES, WAYS)]
_BATCH, _DRAWS = 16, 2000


class Data:
    """References and picks of a split as vectors of one bundle."""

    def __init__(self, perceiver: Perceiver, root: Path, split: str, crop: str) -> None:
        problems = Problems()
        self.picks = list(split_picks(root, split, problems))
        names = sorted({p.name for p in (root / "Reference_Images").iterdir()})
        files = [(name, file) for name in names for file in references(root, name)]
        vectors = []
        for first in range(0, len(files), _BATCH):
            some = [_region(f, first + i) for i, (_, f) in enumerate(files[first : first + _BATCH])]
            vectors.append(perceiver.embed_references([r.frame for r in some]))
        ids = [name for name, _ in files]
        self.galleries = {
            score: ExactGallery(ids, np.concatenate(vectors), product_score=score)
            for score in ("max", "centroid")
        }
        self.references, self._perceiver = len(files), perceiver
        self._outlines = root if crop == "segment" else None
        self._asked: dict[tuple[int, str], list[NDArray[np.float32] | None]] = {}

    def right(self, case: str) -> NDArray[np.bool_]:
        """(N,) bool, the picks whose first product is the true one."""
        number, _, way, _, place = case.split()
        score, fusion = way.split("/")
        gallery, found = self.galleries[score], []
        for pick, query in zip(self.picks, self._queries(int(number), fusion), strict=True):
            allow = frozenset(pick.manifest) if place == "container" else None
            best = [] if query is None else find(gallery, query, 1, allow=allow)
            found.append(pick.truth in [m.product_id for m in best])
        return np.array(found)

    def _queries(self, number: int, fusion: str) -> list[NDArray[np.float32] | None]:
        if (number, fusion) in self._asked:
            return self._asked[number, fusion]
        out = self._asked[number, fusion] = []
        how = "fused" if fusion == "fused" else "max"
        for i, pick in enumerate(self.picks):
            there = [v for v in VIEWS[:number] if v in pick.views]
            stamps = range(10_000_000 + 10 * i, 10_000_000 + 10 * (i + 1))
            regions = (
                self._region(pick, v, stamp) for v, stamp in zip(there, stamps, strict=False)
            )
            shown = [PickView(n, r) for n, r in zip(our_views(there), regions, strict=True)]
            seen, _ = self._perceiver.naming.usable_views(shown, PickConfig(), how)
            out.append(self._perceiver.embed_views(seen, view_fusion=how) if seen else None)
        return out

    def _region(self, pick: Pick, view: str, stamp: int) -> Region:
        box = outline_box(self._outlines, pick.id, view) if self._outlines else None
        return replace(_region(pick.views[view], stamp), box=box)


def _region(file: Path, stamp: int) -> Region:
    return Region(Frame(read_image(file), "rgb", stamp_ns=1 + stamp))


def measure(data: Data, case: str) -> dict[str, Any]:
    """Recall of one way, and what it gains over the usual one."""
    groups = [p.truth for p in data.picks]
    worth = independent(groups)
    number, _, way, _, place = case.split()
    right, usual = data.right(case), data.right(f"{number} of max/fused in {place}")
    names, group = np.unique(groups, return_inverse=True)
    gains = np.bincount(group, right.astype(float) - usual)
    counts = np.bincount(group)
    drawn = np.random.default_rng(0).integers(len(names), size=(_DRAWS, len(names)))
    low, high = np.quantile(gains[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return {
        "views": int(number),
        "place": place,
        "way": way,
        "recall": round(float(right.mean()), 4),
        "at_least": round(at_least(right.mean() * worth, worth, 0.975), 4),
        "at_most": round(at_most(right.mean() * worth, worth, 0.975), 4),
        "gain": round(float(gains.sum() / len(right)), 4),
        "gain_limits": [round(float(low), 4), round(float(high), 4)],
    }


def main() -> int:
    """Measure every case."""
    parser = options(__doc__ or "", "identification_scores", CASES, rounds=1)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="ARMBench's identification data")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--crop", default="image", choices=CROPS, help="as the bundle was trained")
    args = parse(parser)
    config = RuntimeConfig(bundle=str(args.bundle), threads=args.threads)
    perceiver = Perceiver(config)
    data = Data(perceiver, find_root(args.data), args.split, args.crop)
    sizes = [len(p.manifest) for p in data.picks]
    results = Results(
        args,
        bundle=perceiver.bundle.title,
        precision=perceiver.precision,
        data={
            "name": args.data.name,
            "split": args.split,
            "crop": args.crop,
            "picks": len(data.picks),
            "products_picked": len({p.truth for p in data.picks}),
            "products": len(data.galleries["max"].products),
            "references": data.references,
            "manifest_size_median": float(np.median(sizes)),
            "chance_in_container": round(float(np.mean([1 / n for n in sizes])), 4),
        },
    )
    for case in args.cases:
        results.run(case, partial(measure, data, case))
    print(f"written: {args.out.relative_to(ROOT) if args.out.is_relative_to(ROOT) else args.out}",
          file=sys.stderr)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(told(main))
