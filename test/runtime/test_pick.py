"""A pick end to end on a drawn station: which product, and is it all right?"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from robollm.core.decide import UNKNOWN, IdentificationPolicy
from robollm.core.defects import NOMINAL, UNINSPECTED
from robollm.core.frame import Frame
from robollm.core.settings import PickConfig
from robollm.gallery.catalogue import load_catalogue
from robollm.runtime.enroll import enroll
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import PickView, uninspected
from robollm.runtime.pixels import Region

QUALITY = PickConfig()
EASY = IdentificationPolicy(accept=-1.0, margin=0.0, temperature=0.1)
NEVER = {"multi_pick": 0.999, "package_defect": 0.999}  # the sketch's verdicts mean nothing


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Twelve products with two drawn pictures each."""
    folder, rng = tmp_path_factory.mktemp("station") / "references", np.random.default_rng(3)
    for i in range(12):
        (folder / f"P{i:02}").mkdir(parents=True)
        for number in (1, 2):
            blobs = cv2.resize(rng.integers(0, 255, (7, 8, 3), np.uint8), (160, 140))
            cv2.imwrite(str(folder / f"P{i:02}" / f"{number}.jpg"), blobs)
    return folder


@pytest.fixture(scope="module")
def catalogue(references, perceiver):
    """Two containers that share some of the products."""
    folder, products = references.parent, sorted(p.name for p in references.iterdir())
    manifest = {
        "format": "robollm-manifest", "format_version": 1,
        "products": {name: {} for name in products},
        "containers": {"tote-A": products[:8], "tote-B": products[4:]},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    enroll(perceiver, references, folder / "gallery")
    b = perceiver.bundle
    return load_catalogue(
        str(folder / "manifest.json"), "", embedding_sha256=b.embedding_sha256, bundle=b.title
    )


def reference(references, product, number=1):
    bgr = cv2.imread(str(references / product / f"{number}.jpg"))
    return Frame(bgr, "bgr", number, "camera", stream=f"reference {product}")


def view(name, frame, box=None):
    return PickView(name, Region(frame, box))


def picture(value=None, stamp=5):
    rng = np.random.default_rng(stamp)
    pixels = rng.integers(0, 255, (120, 120, 3), np.uint8)
    if value is not None:
        pixels[:] = value
    return Frame(pixels, "rgb", stamp, "wall_frame", stream="wall")


MISSING = PickView("wall", None, "no usable image within 2 s of the pick")
DARK = view("dark", picture(0))
EVEN = view("even", picture(200))
OUTSIDE = view("outside", picture(), (500, 500, 600, 600))


# identification


def test_a_reference_picture_is_found_again_first(perceiver, references, catalogue):
    for container, products in catalogue.manifests.containers.items():
        product = sorted(products)[0]
        got = perceiver.identify_pick(
            [view("image", reference(references, product))],
            catalogue=catalogue, container=container, policy=EASY, quality=QUALITY,
        )  # fmt: skip
        assert got.ranked[0][0] == product
        assert got.views == ("image",)


def test_only_products_of_the_container_are_answered(perceiver, references, catalogue):
    inside, outside = catalogue.manifests.containers["tote-A"], None
    outside = next(iter(sorted(catalogue.manifests.containers["tote-B"] - inside)))
    policy = IdentificationPolicy(accept=-1.0, margin=0.0, temperature=0.1, top_k=100)
    got = perceiver.identify_pick(
        [view("image", reference(references, outside))],
        catalogue=catalogue, container="tote-A", policy=policy, quality=QUALITY,
    )  # fmt: skip
    assert {name for name, _ in got.ranked} == inside


def test_views_that_can_not_be_used_are_left_out(perceiver, references, catalogue):
    product = sorted(catalogue.manifests.containers["tote-A"])[0]
    good = view("image", reference(references, product))

    def ask(*views):
        return perceiver.identify_pick(
            views, catalogue=catalogue, container="tote-A", policy=EASY, quality=QUALITY
        )

    alone, crowded = ask(good), ask(DARK, MISSING, good, EVEN, OUTSIDE)
    assert crowded.views == ("image",)
    assert crowded.ranked == alone.ranked
    both = ask(good, view("low", reference(references, product, 2)))
    assert both.views == ("image", "low")


def test_without_any_usable_view_it_is_unknown_and_says_why(perceiver, catalogue):
    got = perceiver.identify_pick(
        [DARK, MISSING, OUTSIDE],
        catalogue=catalogue, container="tote-A", policy=EASY, quality=QUALITY,
    )  # fmt: skip
    assert got.ranked == ((UNKNOWN, 1.0),)
    for reason in ("dark too dark", "wall no usable image", "outside box", "no area"):
        assert reason in got.reason


@pytest.mark.parametrize("container", [None, "tote-Z"])
def test_without_a_known_container_everything_is_unknown_and_nothing_is_run(
    perceiver, references, catalogue, container
):
    frame = reference(references, sorted(catalogue.manifests.products)[0])
    before = perceiver.backbone.runs
    got = perceiver.identify_pick(
        [view("image", frame)],
        catalogue=catalogue, container=container, policy=EASY, quality=QUALITY,
    )  # fmt: skip
    many = perceiver.identify_instances(
        frame, [(0, 0, 50, 50), (9, 9, 99, 99)],
        catalogue=catalogue, container=container, policy=EASY,
    )  # fmt: skip
    assert len(many) == 2
    for one in (got, *many):
        assert one.ranked == ((UNKNOWN, 1.0),)
        assert "container" in one.reason
    assert perceiver.backbone.runs == before


def test_every_instance_of_a_tote_gets_its_answer(perceiver, references, catalogue):
    a, b = sorted(catalogue.manifests.containers["tote-A"])[:2]
    left, right = reference(references, a), reference(references, b)
    h, w = left.hw
    both = Frame(np.hstack([left.pixels, right.pixels]), "bgr", 77)
    got = perceiver.identify_instances(
        both, [(0, 0, w, h), (w, 0, 2 * w, h)],
        catalogue=catalogue, container="tote-A", policy=EASY,
    )  # fmt: skip
    assert [one.ranked[0][0] for one in got] == [a, b]
    assert all(one.views == ("image",) for one in got)


def test_no_instances_are_no_answers(perceiver, catalogue):
    none = perceiver.identify_instances(
        picture(), [], catalogue=catalogue, container="tote-A", policy=EASY
    )
    assert none == []


# inspection


def test_the_evidence_of_every_expected_view_comes_in_order(perceiver):
    good = view("low", picture(stamp=9), (10.4, 20, 90, 100.2))
    verdict, evidence = perceiver.inspect_pick(
        [MISSING, good, DARK, OUTSIDE], thresholds=NEVER, quality=QUALITY
    )
    assert [e.view for e in evidence] == ["wall", "low", "dark", "outside"]
    assert [e.probabilities is not None for e in evidence] == [False, True, False, False]
    wall, low, dark, outside = evidence
    assert (wall.stamp_ns, wall.frame_id, wall.box) == (0, "", (0, 0, 0, 0))
    assert (low.stamp_ns, low.frame_id, low.box) == (9, "wall_frame", (10, 20, 90, 101))
    assert (dark.stamp_ns, dark.frame_id) == (5, "wall_frame")
    assert (low.reason, wall.reason) == ("", MISSING.reason)
    assert "too dark" in dark.reason
    assert "no area" in outside.reason
    assert verdict.inspected == ("low",)
    assert [name for name, _ in verdict.missing] == ["wall", "dark", "outside"]
    assert verdict.decision == NOMINAL
    assert dict(verdict.ranked)[UNINSPECTED] == pytest.approx(0.5 * 3 / 4)


def test_the_strongest_view_decides(perceiver):
    views = [view(f"v{i}", picture(stamp=i + 1)) for i in range(4)]
    p = perceiver.inspect([v.region for v in views])
    limit = max(q["multi_pick"] for q in p)
    thresholds = {"multi_pick": limit, "package_defect": 0.999}
    verdict, evidence = perceiver.inspect_pick(views, thresholds=thresholds, quality=QUALITY)
    assert verdict.decision == "multi_pick"
    assert [e.probabilities for e in evidence] == p


def test_views_are_joined_as_the_bundle_s_card_says(perceiver, tmp_path):
    """Its multi-picks by the mean: one view above the threshold is outvoted by the others."""
    folder = shutil.copytree(perceiver.bundle.folder, tmp_path / "mean")
    card = json.loads((folder / "bundle.json").read_text())
    card["thresholds"]["over_views"] = {"multi_pick": "mean"}
    (folder / "bundle.json").write_text(json.dumps(card))
    other = Perceiver(replace(perceiver.config, bundle=str(folder)))
    views = [view(f"v{i}", picture(stamp=i + 1)) for i in range(4)]
    p = [q["multi_pick"] for q in perceiver.inspect([v.region for v in views])]
    assert max(p) > sum(p) / 4
    limits = {"multi_pick": max(p), "package_defect": 0.999}
    verdict, evidence = other.inspect_pick(views, thresholds=limits, quality=QUALITY)
    assert verdict.decision == NOMINAL
    assert [e.probabilities["multi_pick"] for e in evidence] == pytest.approx(p)
    limits["multi_pick"] = sum(p) / 4 - 1e-9
    verdict, _ = other.inspect_pick(views, thresholds=limits, quality=QUALITY)
    assert verdict.decision == "multi_pick"


@pytest.mark.parametrize(
    "views",
    [[], [MISSING], [DARK], [EVEN], [OUTSIDE], [MISSING, DARK, EVEN, OUTSIDE]],
    ids=["none", "missing", "dark", "even", "outside", "all"],
)
def test_a_pick_that_nobody_saw_is_uninspected(perceiver, views):
    verdict, evidence = perceiver.inspect_pick(views, thresholds=NEVER, quality=QUALITY)
    assert verdict.ranked == ((UNINSPECTED, 1.0),)
    assert len(evidence) == len(views)
    assert all(e.reason for e in evidence)


def test_too_few_views_are_uninspected(perceiver):
    verdict, _ = perceiver.inspect_pick(
        [view("low", picture()), MISSING], thresholds=NEVER, quality=QUALITY, min_views=2
    )
    assert verdict.ranked == ((UNINSPECTED, 1.0),)


def test_the_limits_of_quality_are_the_users(perceiver):
    anything = PickConfig(dark_below=0.0, flat_below=0.0)
    verdict, _ = perceiver.inspect_pick([DARK, EVEN], thresholds=NEVER, quality=anything)
    assert verdict.inspected == ("dark", "even")


def test_one_reason_for_all_views_is_uninspected_too():
    verdict, evidence = uninspected(["low", "wall"], "the model failed")
    assert verdict.ranked == ((UNINSPECTED, 1.0),)
    assert verdict.missing == (("low", "the model failed"), ("wall", "the model failed"))
    assert [(e.view, e.probabilities, e.reason) for e in evidence] == [
        ("low", None, "the model failed"), ("wall", None, "the model failed"),
    ]  # fmt: skip
