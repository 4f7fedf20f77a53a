"""A gallery calibrated on drawn picks, and who takes the calibration over."""

from __future__ import annotations

import builtins
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from robollm.cli.gallery.calibrate import _tell
from robollm.core.calibration import Mixture
from robollm.core.decide import NOT_IN_MANIFEST, UNKNOWN, ElsewherePolicy, IdentificationPolicy
from robollm.core.errors import CalibrationError, ConfigError, GalleryError
from robollm.core.frame import Frame
from robollm.core.settings import IdentificationConfig, PickConfig
from robollm.data import armbench_identification as armbench
from robollm.data.armbench_picks import Outlines, outline_box, split_picks
from robollm.data.problems import Problems
from robollm.gallery.catalogue import Catalogue
from robollm.gallery.manifest import Manifests
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_gallery, open_writer
from robollm.runtime.calibrate import Wish, calibrate, drawn, look
from robollm.runtime.pick_views import PickView
from robollm.runtime.pixels import Region
from robollm.runtime.policy import KIND, MOST_GROWTH

PRODUCTS, PICKS = 60, 120
IDS = [f"P{i:02}" for i in range(PRODUCTS)]
WISH = Wish(false_accept=0.2, mixture=Mixture(0.2, 0.5))


def pixels(product, noise=0):
    """A picture of a product, and others that are like it."""
    rng = np.random.default_rng(product)
    blobs = cv2.resize(rng.integers(0, 255, (5, 6, 3), np.uint8), (100, 90))
    rough = np.random.default_rng([product, noise]).normal(0, 6 * min(noise, 1), blobs.shape)
    return np.clip(blobs + rough, 0, 255).astype(np.uint8)


def jpeg(image):
    return cv2.imencode(".jpg", image)[1].tobytes()


def frame(product, noise=0):
    return Frame(pixels(product, noise), "bgr", 1 + product + 1000 * noise, stream=f"{product}")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Picks of sixty products in two views; every one tests. Four can't be used."""
    folder = tmp_path_factory.mktemp("armbench")
    root = folder / armbench.ROOT
    rng = np.random.default_rng(0)
    picks = [f"K{i:03}" for i in range(PICKS)]
    for i, name in enumerate(picks):
        product = i % PRODUCTS
        others = rng.permutation([p for p in range(PRODUCTS) if p != product])[:7]
        listed = {IDS[p]: {} for p in (product, *others)}
        truth = IDS[product]
        shown = {v: jpeg(pixels(product, 1 + i + n)) for n, v in
                 enumerate(("PickRGB", "ToteWallRGB"))}  # fmt: skip
        if name == "K000":
            listed = {truth: {}}
        elif name == "K001":
            del listed[truth]
        elif name == "K002":
            truth = "stranger"
        elif name == "K003":
            shown = {"PickRGB": jpeg(np.zeros((90, 100, 3), np.uint8))}
        outline = {"PickRGB": [[2, 2, 88, 2, 88, 80, 2, 80]]} if i % 2 else {}
        annotation = {"GT_ID": truth, "segmentation": outline}
        armbench.write_pick(root, name, shown, listed, annotation)
    armbench.write_split(
        root,
        {"train": [], "val": [], "test": picks},
        {"train": ["T0"], "val": [], "test": [*IDS, "stranger"]},
    )
    (root / armbench.VALIDATION_FILE).write_text('{"objects": []}')
    return folder


@pytest.fixture(scope="module")
def folder(perceiver, tmp_path_factory):
    """A gallery of the sixty products, not calibrated; read only."""
    made = MadeWith(perceiver.bundle.embedding_sha256, perceiver.bundle.title)
    out = tmp_path_factory.mktemp("gallery") / "G"
    create_gallery(out, dim=perceiver.bundle.embedding_dim, made_with=made)
    with open_writer(out, made_with=made) as writer:
        for i, product in enumerate(IDS):
            writer.add_references(
                product, perceiver.embed([Region(frame(i))]), sources=[f"{product}/1.jpg"],
                sha256s=[f"{i:064x}"],
            )  # fmt: skip
        writer.commit()
    return out


def opened(perceiver, folder):
    b = perceiver.bundle
    return open_gallery(folder, embedding_sha256=b.embedding_sha256, bundle=b.title)


@pytest.fixture(scope="module")
def looked(perceiver, folder, data):
    problems = Problems()
    picks = list(split_picks(data / armbench.ROOT, "test", problems))
    return look(
        perceiver, opened(perceiver, folder), picks,
        views=("PickRGB", "ToteWallRGB"), view_fusion="fused", problems=problems,
    )  # fmt: skip


@pytest.fixture(scope="module")
def record(perceiver, folder, looked):
    return calibrate(looked, WISH, perceiver, opened(perceiver, folder), "drawn")


class Gallery:
    """What `policy` asks of one, changed at will."""

    def __init__(self, record, products=PRODUCTS, plan="exact: all"):
        self._record, self.products, self.plan = record, range(products), plan

    def record(self, kind, name):
        assert (kind, name.count("/")) == (KIND, 1)
        return self._record


def test_picks_that_tell_nothing_are_left_out_and_counted(looked):
    assert len(looked.seen) == PICKS - 4
    assert looked.left_out == {
        "alone_in_manifest": 1,
        "truth_not_in_manifest": 1,
        "truth_without_reference": 1,
        "no_usable_view": 1,
    }
    assert looked.views == {"image": PICKS - 4, "tote_wall": PICKS - 4}
    for seen in looked.seen:
        assert len(seen.inside) == 8
        assert len(seen.outside) == PRODUCTS - 8


def test_a_calibration_keeps_its_rate_and_says_what_it_is_worth(record, perceiver):
    chosen, told = record["chosen_on"], record["reported_on"]
    assert chosen["false_accept"]["at_most"] <= WISH.false_accept
    assert chosen["picks"] + told["picks"] == PICKS - 4
    assert record["inside"]["accept"] >= record["inside"]["unknown_at"]
    assert record["bundle"] == perceiver.bundle.title
    assert record["products"] == PRODUCTS
    assert record["wanted"] == {
        "false_accept": 0.2, "confidence": 0.95, "strangers": 0.2, "foreign": 0.5
    }  # fmt: skip
    json.dumps(record, allow_nan=False)


def test_the_gallery_keeps_it_and_the_perceiver_takes_it_over(record, perceiver, folder, tmp_path):
    mine = tmp_path / "G"
    shutil.copytree(folder, mine)
    with open_writer(mine) as writer:
        writer.put_record(KIND, "max/fused", record)
        writer.commit()
    gallery = opened(perceiver, mine)
    policy, text = perceiver.policy(IdentificationConfig(), gallery)
    assert {k: getattr(policy, k) for k in record["inside"]} == record["inside"]
    assert text.startswith(f"gallery's calibration max/fused of {record['made']}")
    if record["elsewhere"] is not None:
        assert policy.elsewhere == ElsewherePolicy(**record["elsewhere"])
    other, text = perceiver.policy(IdentificationConfig(product_score="centroid"), gallery)
    assert other.accept == perceiver.bundle.thresholds.accept
    assert "no calibration centroid/fused" in text


FAR = {"accept": 0.5, "margin": 0.1, "temperature": 0.1, "unknown_at": 0.4, "handicap": 0.1}


def test_a_parameter_comes_before_the_gallery_and_that_before_the_bundle(record, perceiver):
    t = perceiver.bundle.thresholds
    bundles, text = perceiver.policy(IdentificationConfig(top_k=3), Gallery(None))
    assert bundles == IdentificationPolicy(t.accept, t.margin, t.id_temperature, 3)
    assert text.startswith("bundle's thresholds (the gallery has no calibration max/fused")
    assert "not_in_manifest is never answered" in text
    gallery = Gallery({**record, "elsewhere": FAR})
    config = IdentificationConfig(accept=-1.0, margin=0.0)
    mine, text = perceiver.policy(config, gallery)
    assert (mine.accept, mine.margin) == (-1.0, 0.0)
    assert mine.temperature == record["inside"]["temperature"]
    assert mine.elsewhere == ElsewherePolicy(**FAR)
    assert text.endswith("; accept and margin set by parameter")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"query_sha256": "0" * 64, "bundle": "another 1.0"}, "made with bundle another 1.0"),
        ({"view_fusion": "max"}, "made with view_fusion max"),
        ({"product_score": "centroid"}, "made with product_score centroid"),
        ({"inside": {"accept": 0.5}}, "malformed"),
        ({"inside": None}, "malformed"),
        ({"inside": ["accept", "margin", "temperature", "unknown_at"]}, "malformed"),
        ({"elsewhere": {**FAR, "handicap": 10**400}}, "malformed"),
        ({"elsewhere": {**FAR, "accept": float("nan")}}, "malformed"),
        ({"elsewhere": {**FAR, "temperature": 0}}, "malformed"),
        ({"products": "many"}, "malformed"),
    ],
)
def test_a_calibration_of_something_else_is_not_applied_and_that_is_said(
    record, perceiver, change, why
):
    policy, text = perceiver.policy(IdentificationConfig(), Gallery({**record, **change}))
    t = perceiver.bundle.thresholds
    assert policy == IdentificationPolicy(t.accept, t.margin, t.id_temperature)
    assert text.startswith("bundle's thresholds (")
    assert why in text


@pytest.mark.parametrize(
    ("gallery", "why"),
    [
        ({"products": int(PRODUCTS * MOST_GROWTH) + 1}, "has 91 products, 60 then"),
        ({"plan": "HNSW ef 64"}, "a calibration with an approximate search"),
    ],
)
def test_nothing_elsewhere_is_named_in_a_gallery_that_was_not_measured(
    record, perceiver, gallery, why
):
    kept = {**record, "elsewhere": FAR}
    assert perceiver.policy(IdentificationConfig(), Gallery(kept))[0].elsewhere is not None
    policy, text = perceiver.policy(IdentificationConfig(), Gallery(kept, **gallery))
    assert policy.elsewhere is None
    assert policy.accept == record["inside"]["accept"]
    assert why in text
    off, text = perceiver.policy(IdentificationConfig(search_elsewhere=False), Gallery(kept))
    assert off.elsewhere is None
    assert "never answered" not in text


def test_too_few_picks_are_refused_with_numbers(looked, perceiver, folder):
    gallery = opened(perceiver, folder)
    few = replace(looked, seen=looked.seen[:30])
    with pytest.raises(CalibrationError, match=r"30 picks can be used, 15 .* want 20 of each"):
        calibrate(few, WISH, perceiver, gallery, "drawn")
    strict = replace(WISH, false_accept=0.01)
    with pytest.raises(CalibrationError, match=r"want 0\.01") as e:
        calibrate(looked, strict, perceiver, gallery, "drawn")
    assert "598 products or more" in e.value.fix


@pytest.mark.parametrize("wish", [{"false_accept": 0}, {"confidence": 1}, {"confidence": 0.4}])
def test_a_wish_that_makes_no_sense_is_refused(wish):
    with pytest.raises(CalibrationError, match="want a rate between 0 and 1"):
        Wish(**wish)


def test_a_part_of_the_picks_is_spread_over_all():
    assert drawn(range(10), 4) == [0, 3, 6, 9]
    assert drawn(range(3), 0) == drawn(range(3), 5) == [0, 1, 2]


def test_an_outline_becomes_its_box_and_five_percent_around_it(data):
    root = data / armbench.ROOT
    outline = {"segmentation": {"PickRGB": [[20, 10, 60, 10, 60, 30, 20, 30]]}}
    armbench.write_pick(root, "other", {}, {}, {"GT_ID": "P00", **outline})
    assert outline_box(root, "other", "PickRGB") == pytest.approx((18, 9, 62, 31))
    assert outline_box(root, "other", "ToteWallRGB") is None


def test_pictures_without_an_outline_are_counted_and_a_split_without_any_is_refused(data):
    problems = Problems()
    outlines = Outlines(data / armbench.ROOT, problems)
    outlines.look("K004", ["PickRGB", "ToteWallRGB"])
    with pytest.raises(ConfigError, match="none of 2 pictures has an outline") as e:
        outlines.refuse_if_none("these picks", "--crop image")
    assert "K004: no outline in PickRGB; annotation.json has GT_ID, segmentation" in e.value.what
    outlines.look("K005", ["PickRGB"])
    outlines.refuse_if_none("these picks", "--crop image")
    assert problems.counts == {"no_outline": 2}


def test_a_split_that_is_not_there_is_refused(data):
    with pytest.raises(ConfigError, match="split 'all'"):
        next(split_picks(data / armbench.ROOT, "all", Problems()))


# Picks of products that are not in the manifest.

CLEAR = IdentificationPolicy(
    0.999, 0.0, 0.05, unknown_at=0.9,
    elsewhere=ElsewherePolicy(0.9, 0.0, 0.05, 0.5, 0.0),
)  # fmt: skip


def ask(perceiver, gallery, product, policy, container="A"):
    manifests = Manifests({}, {"A": frozenset(IDS[:8]), "empty": frozenset(["none"]),
                               "bare": frozenset([*IDS[:8], "none", "nobody"])})  # fmt: skip
    return perceiver.identify_pick(
        [PickView("image", Region(frame(product)))],
        catalogue=Catalogue(gallery, manifests), container=container,
        policy=policy, quality=PickConfig(),
    )  # fmt: skip


@pytest.mark.parametrize("view_fusion", ["fused", "max"])
def test_a_product_of_the_gallery_that_is_not_in_the_manifest_is_named(
    perceiver, folder, view_fusion
):
    gallery = opened(perceiver, folder)
    policy = replace(CLEAR, view_fusion=view_fusion)
    before = perceiver.naming.elsewhere["searched"]
    got = ask(perceiver, gallery, 20, policy)
    assert (got.decision, got.ranked[1][0]) == (NOT_IN_MANIFEST, IDS[20])
    assert perceiver.naming.elsewhere["searched"] == before + 1
    inside = ask(perceiver, gallery, 3, replace(policy, accept=0.9))
    assert inside.ranked[0][0] == IDS[3]
    assert perceiver.naming.elsewhere["searched"] == before + 1


@pytest.mark.parametrize("elsewhere", [None, CLEAR.elsewhere])
def test_a_doubt_says_that_it_may_be_a_product_without_reference(perceiver, folder, elsewhere):
    policy = replace(CLEAR, elsewhere=elsewhere)
    gallery = opened(perceiver, folder)
    text = "2 products of the manifest have no reference"
    got = ask(perceiver, gallery, 20, policy, container="bare")
    assert got.reason.endswith(text)
    assert replace(got, reason="") == replace(ask(perceiver, gallery, 20, policy), reason="")
    assert text not in ask(perceiver, gallery, 20, policy).reason
    sure = ask(perceiver, gallery, 3, replace(policy, accept=0.9), container="bare")
    assert text not in sure.reason


def test_a_rest_that_can_not_be_searched_leaves_unknown_and_is_counted(perceiver, folder):
    stored = opened(perceiver, folder)

    class Fails:
        products = stored.products

        def search(self, query, k, allow=None, *, exclude=None):
            if exclude is not None:
                raise GalleryError("the index is gone")
            return stored.search(query, k, allow)

    before = perceiver.naming.elsewhere["failed"]
    got = ask(perceiver, Fails(), 20, CLEAR)
    assert got.ranked == ask(perceiver, stored, 20, replace(CLEAR, elsewhere=None)).ranked
    assert got.decision == UNKNOWN
    assert got.reason.endswith("the rest of the gallery can't be searched: the index is gone")
    assert perceiver.naming.elsewhere["failed"] == before + 1


def test_a_manifest_without_references_is_unknown_whatever_the_rest_holds(perceiver, folder):
    got = ask(perceiver, opened(perceiver, folder), 20, CLEAR, container="empty")
    assert got.ranked == ((UNKNOWN, 1.0),)


def test_instances_are_named_out_of_the_manifest_alone(perceiver, folder):
    gallery = opened(perceiver, folder)
    manifests = Manifests({}, {"A": frozenset(IDS[:8])})
    shown = frame(20)
    (got,) = perceiver.identify_instances(
        shown, [(0, 0, shown.hw[1], shown.hw[0])],
        catalogue=Catalogue(gallery, manifests), container="A", policy=CLEAR,
    )  # fmt: skip
    assert got.decision == UNKNOWN


# The command.


@pytest.fixture
def call(robollm, sketch_bundle, folder, data, tmp_path):
    mine = tmp_path / "G"
    shutil.copytree(folder, mine)

    def run(*more):
        return mine, robollm(
            "gallery", "calibrate", mine, "--bundle", sketch_bundle, "--allow-untrained",
            "--data", data, "--split", "test", "--threads", 1, "--false-accept", 0.2, *more,
        )  # fmt: skip

    return run


def test_the_command_keeps_the_record_and_writes_a_report(call, perceiver, tmp_path):
    pytest.importorskip("matplotlib")
    folder, said = call("--out", tmp_path / "report")
    assert said.code == 0, said.err
    for word in ("accept", "reported on", "false_not_in_manifest", "calibration error"):
        assert word in said.out
    written = json.loads((tmp_path / "report" / "calibration.json").read_text())
    assert opened(perceiver, folder).record(KIND, "max/fused") == written
    for name in ("curve", "reliability"):
        assert cv2.imread(str(tmp_path / "report" / f"{name}.png")).shape[2] == 3
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == [
        "calibration.json", "curve.png", "reliability.png"
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["false_accept", "false_not_in_manifest"])
def test_a_rate_that_does_not_hold_on_the_other_half_is_said(record, capsys, kind):
    good = {"share": 0.0, "at_most": 0.1}
    told = {**record["reported_on"], "false_accept": good, "false_not_in_manifest": good}
    _tell({**record, "reported_on": told}, dry_run=False)
    assert "more false answers than wanted" not in capsys.readouterr().err
    told[kind] = {"share": 0.9, "at_most": 1.0}
    _tell({**record, "reported_on": told}, dry_run=False)
    assert "more false answers than wanted" in capsys.readouterr().err


def test_a_dry_run_leaves_the_gallery_as_it_is(call, perceiver):
    folder, said = call("--dry-run", "--json", "--crop", "segment", "--picks", 90)
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["view_fusion"], told["data"].split()[-1]) == ("fused", "segment")
    assert told["chosen_on"]["picks"] + told["reported_on"]["picks"] <= 90
    assert opened(perceiver, folder).record(KIND, "max/fused") is None


def test_without_matplotlib_the_numbers_are_written_and_the_lack_is_named(
    call, tmp_path, monkeypatch
):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError("no matplotlib here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    _, said = call("--out", tmp_path / "report", "--dry-run")
    assert said.code == 2
    assert "pictures need Matplotlib" in said.err
    assert "robollm[eval]" in said.err
    assert (tmp_path / "report" / "calibration.json").is_file()
