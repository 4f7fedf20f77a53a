"""Bundles with more than the five graphs: fusion of views, sequences, features of a tote's own."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from heads_kit import EMBEDDING, VIEWS

from robollm.core.decide import UNKNOWN, IdentificationPolicy
from robollm.core.errors import FrameError, InferenceError, ModelFileError
from robollm.core.frame import Frame
from robollm.core.fuse import arrange, mean_embedding, our_views
from robollm.core.settings import PickConfig, RuntimeConfig
from robollm.gallery.catalogue import load_catalogue
from robollm.runtime.backbone import Features
from robollm.runtime.enroll import enroll
from robollm.runtime.heads import Embedder, Pooler
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import PickView
from robollm.runtime.pixels import Region, to_canvas
from robollm.runtime.session import Place
from robollm.runtime.timing import Laps

EASY = IdentificationPolicy(accept=-1.0, margin=0.0, temperature=0.1)


def config_of(folder, **settings):
    return RuntimeConfig(bundle=str(folder), threads=1, allow_untrained=True, **settings)


@pytest.fixture(scope="module")
def joined(whole):
    return Perceiver(config_of(whole))


@pytest.fixture(scope="module")
def tote():
    from robollm.export.pictures import tote

    return Frame((tote(np.random.default_rng(7), (240, 300)) * 255).astype(np.uint8), "rgb", 1)


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 110, 3), np.uint8)
    return Frame(pixels, "rgb", seed, stream=f"camera {seed}")


def parts(frame, n=3):
    return [Region(frame, (20.0 * i, 15.0 * i, 20.0 * i + 90, 15.0 * i + 80)) for i in range(n)]


# fusion


def test_armbenchs_views_go_by_the_names_of_our_streams():
    views = our_views([*VIEWS, "FarTrayRGB", "mine"])
    assert views == ("image", "tote_wall", "on_arm_low", "far_tray", "mine")


def test_views_are_arranged_as_the_head_wants_them():
    a, b = np.float32([1, 2]), np.float32([3, 4])
    rows, present = arrange({"low": a, "image": b}, ("image", "wall", "low"))
    np.testing.assert_array_equal(rows, [[[3, 4], [0, 0], [1, 2]]])
    np.testing.assert_array_equal(present, [[1, 0, 1]])


def catalogue_for(perceiver, folder):
    """Four products with a drawn reference each, all in tote-A."""
    for i in range(4):
        (folder / "references" / f"P{i}").mkdir(parents=True)
        cv2.imwrite(str(folder / "references" / f"P{i}" / "1.png"), picture(100 + i).pixels)
    enroll(perceiver, folder / "references", folder / "gallery")
    manifest = {
        "format": "robollm-manifest", "format_version": 1,
        "products": {f"P{i}": {} for i in range(4)},
        "containers": {"tote-A": [f"P{i}" for i in range(4)]},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    b = perceiver.bundle
    return load_catalogue(
        str(folder / "manifest.json"), "", embedding_sha256=b.embedding_sha256, bundle=b.title
    )


@pytest.fixture(scope="module")
def catalogue(joined, tmp_path_factory):
    return catalogue_for(joined, tmp_path_factory.mktemp("station"))


def asked(perceiver, catalogue, *views, policy=EASY):
    """What a pick's query vectors are, seen through the gallery: the answer and the queries."""
    queries = []
    gallery = catalogue.gallery

    class Listens:
        products = gallery.products

        def search(self, query, k, allow, *, exclude):
            queries.append(query)
            return gallery.search(query, k, allow, exclude=exclude)

        def search_views(self, views, k, allow, *, exclude):
            queries.append(views)
            return gallery.search_views(views, k, allow, exclude=exclude)

    answer = perceiver.identify_pick(
        views, catalogue=replace(catalogue, gallery=Listens()), container="tote-A",
        policy=policy, quality=PickConfig(),
    )  # fmt: skip
    return answer, queries


def test_a_pick_is_asked_for_by_all_views_that_the_head_knows(joined, catalogue):
    views = {n: Region(picture(i + 1)) for i, n in enumerate(("image", "on_arm_low", "tote_wall"))}
    answer, (query,) = asked(joined, catalogue, *(PickView(n, r) for n, r in views.items()))
    assert answer.views == tuple(views)
    features = joined.backbone.crops(list(views.values()), Laps(), "identification")
    pooled = dict(zip(views, features.cls, strict=True))  # this head pools CLS
    rows, present = arrange(pooled, joined.fused_views)
    want = joined._embedder._fusion.run({"features": rows, "present": present})[0][0]
    np.testing.assert_allclose(query, want, atol=1e-6)
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    _, (other,) = asked(joined, catalogue, PickView("image", views["image"]))
    assert not np.allclose(query, other)


def test_a_view_that_the_head_does_not_know_is_left_out_counted_and_named(joined, catalogue):
    known, strange = PickView("image", Region(picture(1))), PickView("top", Region(picture(2)))
    before = joined.left_out["top"]
    alone, (want,) = asked(joined, catalogue, known)
    answer, (query,) = asked(joined, catalogue, strange, known)
    assert answer == alone
    np.testing.assert_array_equal(query, want)
    answer, queries = asked(joined, catalogue, strange)
    assert queries == []
    assert answer.decision == UNKNOWN
    assert "top is not among image, tote_wall, on_arm_low" in answer.reason
    assert joined.left_out["top"] == before + 2


def test_an_instance_is_asked_for_by_its_first_view_alone(joined, catalogue, tote):
    box = (20.0, 15.0, 110.0, 95.0)
    (answer,) = joined.identify_instances(
        tote, [box], catalogue=catalogue, container="tote-A", policy=EASY
    )
    same, _ = asked(joined, catalogue, PickView("image", Region(tote, box)))
    assert answer.ranked == same.ranked
    assert answer.views == ("image",)


def test_an_instance_takes_the_place_of_the_pre_pick_view_wherever_that_is(joined, tote):
    order = ("ToteWallRGB", "OnArmLowRGB", "PickRGB")
    embedder = Embedder(replace(joined.bundle, views=order), Place("cpu", threads=1))
    features = joined.backbone.crops(parts(tote, 2), Laps(), "identification")
    for i, query in enumerate(embedder.queries(features)):
        alone = Features(features.map[i : i + 1], features.cls[i : i + 1])
        np.testing.assert_allclose(query, embedder.join(alone, ("image",)), atol=1e-6)


def test_an_embedding_that_is_no_number_is_the_models_failure(joined, catalogue, tote, monkeypatch):
    nothing = np.full((1, joined.bundle.embedding_dim), np.nan, np.float32)
    monkeypatch.setattr(joined._embedder, "join", lambda *_: nothing[0])
    monkeypatch.setattr(joined._embedder, "queries", lambda _: nothing)
    with pytest.raises(InferenceError, match="not finite"):
        asked(joined, catalogue, PickView("image", Region(picture(1))))
    with pytest.raises(InferenceError, match="not finite"):
        joined.identify_instances(
            tote, [(20, 15, 110, 95)], catalogue=catalogue, container="tote-A", policy=EASY
        )


def test_references_are_single_pictures(joined, catalogue):
    one = Region(picture(3))
    (reference,) = joined.embed([one])
    _, (query,) = asked(joined, catalogue, PickView("image", one))
    assert not np.allclose(reference, query)


def test_without_a_fusion_head_the_query_is_the_mean_of_the_views(perceiver, tmp_path):
    mine = catalogue_for(perceiver, tmp_path)
    views = [PickView(n, Region(picture(i))) for i, n in enumerate(("image", "any"), start=1)]
    _, (query,) = asked(perceiver, mine, *views)
    want = mean_embedding(perceiver.embed([v.region for v in views]))
    np.testing.assert_allclose(query, want, atol=1e-6)


def test_the_public_query_is_the_one_that_a_pick_is_asked_for_by(joined, catalogue):
    regions = {n: Region(picture(i)) for i, n in enumerate(("image", "tote_wall"), start=1)}
    _, (query,) = asked(joined, catalogue, *(PickView(n, r) for n, r in regions.items()))
    np.testing.assert_allclose(joined.embed_views(regions), query, atol=1e-6)


def test_views_that_are_not_fused_are_embedded_as_references_are_whatever_their_name(
    joined, catalogue
):
    regions = {n: Region(picture(i)) for i, n in enumerate(("image", "top"), start=1)}
    each = replace(EASY, view_fusion="max")
    views = [PickView(n, r) for n, r in regions.items()]
    answer, (queries,) = asked(joined, catalogue, *views, policy=each)
    assert answer.views == ("image", "top")
    np.testing.assert_allclose(queries, joined.embed(list(regions.values())), atol=1e-6)
    np.testing.assert_allclose(joined.embed_views(regions, view_fusion="max"), queries, atol=1e-6)


def test_an_instance_that_is_not_fused_is_a_reference_like_any_other(joined, catalogue, tote):
    box = (20.0, 15.0, 110.0, 95.0)
    each = replace(EASY, view_fusion="max", top_k=1)
    (answer,) = joined.identify_instances(
        tote, [box], catalogue=catalogue, container="tote-A", policy=each
    )
    (query,) = joined.embed([Region(tote, box)])
    (best,) = catalogue.gallery.search(query, 1, catalogue.manifests.containers["tote-A"])
    assert answer.ranked[0][0] == best.product_id


# sequences


def test_a_sequence_of_one_says_what_the_picture_says(joined):
    one = Region(picture(4))
    (alone,) = joined.inspect([one])
    assert joined.inspect_sequence([one]) == pytest.approx(alone, abs=1e-6)


def test_a_sequence_and_a_reference_make_a_difference(joined):
    seen = [Region(picture(i)) for i in (4, 5, 6)]
    plain = joined.inspect_sequence(seen)
    assert sum(plain.values()) == pytest.approx(1)
    assert plain != pytest.approx(joined.inspect_sequence(seen[:1]))
    assert plain != pytest.approx(joined.inspect_sequence(seen, reference=Region(picture(7))))
    assert plain == pytest.approx(joined.inspect_sequence(seen[::-1]), abs=1e-6)


def test_a_bundle_without_a_head_for_sequences_says_so(perceiver):
    with pytest.raises(ModelFileError, match="no graph 'defects_sequence'"):
        perceiver.inspect_sequence([Region(picture(1))])


# one look


def test_one_look_says_what_two_say_and_knows_both(joined, tote):
    regions = parts(tote)
    vectors, judged = joined.look(regions)
    before = joined.backbone.runs
    np.testing.assert_allclose(vectors, joined.embed(regions), atol=1e-6)
    assert judged == joined.inspect(regions)
    assert joined.backbone.runs == before
    assert [len(said) for said in joined.look([])] == [0, 0]


# features of a tote's own


@pytest.fixture(scope="module")
def pooling(whole):
    return Perceiver(config_of(whole, crop_features="tote"))


def test_parts_of_a_tote_cost_no_run_after_it_was_segmented(pooling, tote):
    pooling.segment(tote)
    before = pooling.backbone.runs
    laps = Laps()
    vectors, judged = pooling.look(parts(tote), laps=laps)
    assert pooling.backbone.runs == before
    assert set(laps.ms) == {"pool", "heads"}
    assert vectors.shape == (3, EMBEDDING)
    assert len(judged) == 3


def test_parts_are_pooled_from_the_cells_under_their_boxes(pooling, tote):
    b = pooling.bundle
    image, box = to_canvas(tote.pixels, tote.order, b.tote, b)
    grid = pooling.backbone.run(image[None]).map[0]
    (got,) = pooling._features.of_totes([Region(tote, (40, 40, 200, 200))], Laps(), "x").cls
    x1, y1, x2, y2 = (box.to_canvas(np.float32([[40, 40, 200, 200]]))[0] / b.patch).round()
    want = grid[:, int(y1) : int(y2), int(x1) : int(x2)].mean(axis=(1, 2))
    cosine = got @ want / np.linalg.norm(got) / np.linalg.norm(want)
    assert cosine > 0.9


def test_parts_of_several_totes_come_back_in_order(pooling, tote):
    other = picture(9)
    mixed = [Region(tote, (0, 0, 90, 90)), Region(other), Region(tote, (50, 50, 200, 200))]
    together, _ = pooling.look(mixed)
    for region, vector in zip(mixed, together, strict=True):
        np.testing.assert_allclose(pooling.look([region])[0][0], vector, atol=1e-5)


def test_views_of_a_pick_and_references_stay_crops(pooling, joined):
    one = [Region(picture(5))]
    np.testing.assert_allclose(pooling.embed(one), joined.embed(one), atol=1e-6)
    assert pooling.inspect(one) == joined.inspect(one)


def test_a_part_outside_the_tote_is_a_frame_error(pooling, tote):
    with pytest.raises(FrameError, match="no area inside"):
        pooling.look([Region(tote, (1000, 0, 1100, 9))])


def test_features_of_a_tote_need_their_graph(whole, tmp_path):
    card = json.loads((whole / "bundle.json").read_text())
    del card["graphs"]["regions"]
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(ModelFileError, match="needs the graph 'regions'") as e:
        Perceiver(config_of(tmp_path, crop_features="tote"))
    assert "crop_features: crops" in e.value.fix


def test_features_of_a_tote_are_refused_where_tasks_have_adapters(joined):
    adapted = replace(joined.bundle, adapters=("identification",))
    with pytest.raises(ModelFileError, match="has adapters for identification") as e:
        Pooler(adapted, Place("cpu", threads=1))
    assert "crop_features: crops" in e.value.fix


# settings


def test_fewer_proposals_find_no_more(joined, whole, tote):
    few = Perceiver(config_of(whole, proposals=3))
    assert few._segmenter.proposals == 3
    assert joined._segmenter.proposals == joined.bundle.proposals
    assert len(few.segment(tote, score_min=0.0)) <= 3
    assert len(joined.segment(tote, score_min=0.0)) > 3


def test_an_image_that_is_too_large_is_refused_wherever_it_comes(whole, catalogue):
    small = Perceiver(config_of(whole, max_image_side=100))
    big, fine = picture(1), Frame(np.full((100, 100, 1), 99, np.uint8), "mono", 1)
    for use in (
        small.segment,
        lambda f: small.embed([Region(f, (0, 0, 9, 9))]),
        lambda f: small.inspect([Region(f)]),
        lambda f: small.look([Region(f)]),
    ):
        with pytest.raises(FrameError, match="image is 110x90 px, want sides of at most 100") as e:
            use(big)
        assert e.value.kind == "image_too_large"
        use(fine)
    answer, _ = asked(small, catalogue, PickView("image", Region(big)))
    assert "image image is 110x90 px" in answer.reason
    _, (evidence,) = small.inspect_pick(
        [PickView("low", Region(big))],
        thresholds={"multi_pick": 0.5, "package_defect": 0.5}, quality=PickConfig(),
    )  # fmt: skip
    assert "110x90" in evidence.reason


def test_what_runs_where_is_told_of_every_graph(joined, pooling):
    roles = {"backbone", "proposals", "rois", "identification", "fusion", "defects"}
    assert set(joined.where) == roles | {"defects_sequence"}
    assert set(pooling.where) == set(joined.bundle.graphs)
    assert joined.summary.startswith("precision fp32, threads 1: backbone, proposals, rois,")
    assert "onnxruntime" in joined.summary
