from __future__ import annotations

import numpy as np
import pytest
from drawn_world import write_picks

from robollm.core.errors import ConfigError, TrainingError
from robollm.data import armbench_identification as armbench
from robollm.train.parts import register_parts

register_parts("identification")

from robollm.train import config as configs  # noqa: E402
from robollm.train.identification.data import PickData  # noqa: E402
from robollm.train.identification.metric import RetrievalMetric  # noqa: E402


@pytest.fixture
def root(tmp_path):
    """6 products train, 3 validate, 3 test; 3 picks of each, whose manifests are their split."""
    write_picks(tmp_path)
    return tmp_path / armbench.ROOT


# reading


def test_containers_of_other_products_are_never_read(root):
    for one in PickData(root, "val", size=16).picks:
        (root / "Picks" / one.id / "container.json").write_text("{")
    train = PickData(root, "train", size=16)
    assert len(train.picks) == 18
    assert train.problems.counts == {}
    assert PickData(root, "val", size=16).problems.counts["unreadable_container"] == 9


def test_training_keeps_no_manifests_and_ids_exist_once(root):
    train, val = PickData(root, "train", size=16), PickData(root, "val", size=16)
    assert all(pick.manifest == () for pick in train.picks)
    assert set(train.titles) >= {pick.truth for pick in train.picks}
    ids = [p for pick in val.picks for p in (*pick.manifest, pick.truth)]
    assert len({id(p) for p in ids}) == len(set(ids)) == 3


# choosing a checkpoint


def test_validation_can_be_a_seeded_part_with_the_references_that_it_needs(root):
    whole = PickData(root, "val", size=16)
    drawn = [PickData(root, "val", size=16, val_picks=2, split_seed=s) for s in (0, 0, 1, 2, 3)]
    names = [tuple(p.id for p in one.picks) for one in drawn]
    assert names[0] == names[1]
    assert len(set(names)) > 1
    assert {p.id for one in drawn for p in one.picks} <= {p.id for p in whole.picks}
    assert all(len(n) == 2 for n in names)
    assert len(PickData(root, "val", size=16, val_picks=99).picks) == len(whole.picks)


def test_manifests_of_validation_keep_the_truth_and_so_many_others(root):
    options = {"size": 16, "val_picks": 1, "val_distractors": 1}
    one, again = (PickData(root, "val", **options) for _ in range(2))
    assert one.picks == again.picks
    manifest = one.picks[0].manifest
    assert len(manifest) == 2
    assert one.picks[0].truth in manifest
    shown = [one[i]["data_samples"]["product_id"] for i in range(1, len(one))]
    assert sorted(set(shown)) == sorted(manifest)
    assert len(shown) == 4  # two references each


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_and_test_are_always_whole(root, split):
    part = PickData(root, split, size=16, val_picks=1, val_distractors=1)
    assert part.picks == PickData(root, split, size=16).picks
    assert len(part) == len(PickData(root, split, size=16))


def test_a_negative_limit_is_refused(root):
    with pytest.raises(ConfigError, match="val_picks is -1, val_distractors 0; want 0 or more"):
        PickData(root, "val", val_picks=-1)


@pytest.mark.parametrize(("size", "picks"), [("small", 0), ("base", 2000), ("large", 2000)])
def test_large_models_choose_their_checkpoint_on_a_part(size, picks):
    assert configs.load("identification", size).val_dataloader.dataset.val_picks == picks


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"kind": "pick", "pick": "0042", "product_id": "a"}, "pick 0042"),
        ({"kind": "reference", "product_id": "a", "image": "3.jpg"}, r"reference a/3\.jpg"),
    ],
)
def test_an_embedding_that_is_not_finite_stops_the_validation(about, words):
    metric = RetrievalMetric()
    broken = np.array([0.5, np.inf], np.float32)
    with pytest.raises(TrainingError, match=f"the embedding of {words} is not finite"):
        metric.process({}, [{**about, "embedding": broken}])
