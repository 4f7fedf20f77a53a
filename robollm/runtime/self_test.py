"""Does the whole path run here? A bundle, a tote image, a gallery and a pick. A process of its own.

`python -m robollm.runtime.self_test BUNDLE FOLDER` says one object, or ends with an error.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from robollm.core.errors import RobollmError
from robollm.runtime.child import say

PRODUCTS = 4


def main(bundle: str, folder: str) -> dict[str, object]:
    """Segment a drawn tote, enrol drawn products, name and judge a pick of one.

    Args:
        bundle: a bundle folder; random weights are enough.
        folder: an empty folder to work in.

    Returns:
        Milliseconds of each step, the variant, and where the graphs ran.

    Raises:
        RobollmError: a step failed.
        ValueError: the picture of a product was not named as that product, or a result has a
            value that is not a number.
    """
    began = time.perf_counter()
    import cv2
    import numpy as np

    from robollm.core.frame import Frame
    from robollm.core.settings import (
        DefectConfig,
        IdentificationConfig,
        PickConfig,
        RuntimeConfig,
    )
    from robollm.gallery.catalogue import Catalogue
    from robollm.gallery.manifest import Manifests
    from robollm.gallery.records import Product
    from robollm.gallery.store import open_gallery
    from robollm.runtime.enroll import enroll
    from robollm.runtime.perceiver import Perceiver, PickView
    from robollm.runtime.pixels import Region

    marks = {"imports": time.perf_counter()}
    perceiver = Perceiver(RuntimeConfig(bundle=bundle, allow_untrained=True))
    marks["load"] = time.perf_counter()
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 255, (PRODUCTS, 9, 12, 3), np.uint8).repeat(20, 1).repeat(20, 2)
    found = perceiver.segment(Frame(np.ascontiguousarray(drawn.reshape(-1, 240, 3)), "rgb", 1))
    marks["masks"] = time.perf_counter()
    names = [f"P{i}" for i in range(PRODUCTS)]
    for name, picture in zip(names, drawn, strict=True):
        place = Path(folder, "references", name)
        place.mkdir(parents=True)
        cv2.imwrite(str(place / "1.png"), picture[..., ::-1])
    enroll(perceiver, Path(folder, "references"), Path(folder, "gallery"))
    marks["gallery"] = time.perf_counter()
    views = [
        PickView(n, Region(Frame(np.ascontiguousarray(drawn[2]), "rgb", 2, stream=n)))
        for n in ("image", "on_arm_low", "tote_wall")
    ]
    known = Manifests({n: Product(n) for n in names}, {"self-test": frozenset(names)})
    gallery = open_gallery(
        Path(folder, "gallery"),
        embedding_sha256=perceiver.bundle.embedding_sha256,
        bundle=perceiver.bundle.title,
    )
    catalogue = Catalogue(gallery, known)
    accept_all = IdentificationConfig(accept=-1, margin=0, search_elsewhere=False)
    named = perceiver.identify_pick(
        views[:1],
        catalogue=catalogue,
        container="self-test",
        policy=perceiver.policy(accept_all, catalogue.gallery)[0],
        quality=PickConfig(),
    )
    marks["name"] = time.perf_counter()
    verdict, _ = perceiver.inspect_pick(
        views[1:],
        thresholds=perceiver.defect_thresholds(DefectConfig()),
        quality=PickConfig(),
    )
    marks["verdict"] = time.perf_counter()
    if named.ranked[0][0] != names[2]:
        raise ValueError(f"the picture of {names[2]} was named {named.ranked[0][0]}")
    if len(verdict.inspected) != 2:
        raise ValueError(f"of two views {len(verdict.inspected)} were judged: {verdict.missing}")
    values = np.array([*found.scores, *(s for _, s in (*named.ranked, *verdict.ranked))])
    if not np.isfinite(values).all():
        raise ValueError("a score is not a number")
    times = [began, *marks.values()]
    spent = {n: round(1e3 * (b - a)) for n, a, b in zip(marks, times, times[1:], strict=False)}
    return {"ms": spent, "precision": perceiver.precision, "where": perceiver.summary}


if __name__ == "__main__":
    try:
        say(**main(*sys.argv[1:]))
    except (RobollmError, ValueError) as e:
        sys.exit(f"{e}".splitlines()[0])
