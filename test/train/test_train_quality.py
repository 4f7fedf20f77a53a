import itertools
import json
import math

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.train.quality import embedding_quality, write_quality
from robollm.train.quality.measure import whole_classes


def clusters(n, classes, d, spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    return rng.normal(size=(classes, d))[labels] + spread * rng.normal(size=(n, d)), labels


def pairs_by_loop(rows, labels):
    """The cosines of positive and of negative pairs, one at a time."""
    near, far = [], []
    for i, j in itertools.combinations(range(len(rows)), 2):
        cosine = rows[i] @ rows[j] / math.sqrt(rows[i] @ rows[i]) / math.sqrt(rows[j] @ rows[j])
        (near if labels[i] == labels[j] else far).append(cosine)
    return near, far


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_statistics_and_histograms_are_those_of_a_loop_over_all_pairs(block):
    rows, labels = clusters(40, 4, 6, 1.0)
    quality = embedding_quality(rows, labels, block=block)
    cosines = pairs_by_loop(rows, labels)
    for pairs, loop in zip((quality.positives, quality.negatives), cosines, strict=True):
        assert pairs.count == len(loop)
        seen = [pairs.mean, pairs.std, pairs.smallest, pairs.largest]
        assert seen == pytest.approx([np.mean(loop), np.std(loop), min(loop), max(loop)])
        assert list(pairs.histogram) == np.histogram(loop, bins=128, range=(-1, 1))[0].tolist()
    near, far = cosines
    wins = np.mean([(p > q) + 0.5 * (p == q) for p in near for q in far])
    assert abs(quality.auc - wins) <= quality.auc_error + 1e-12
    assert quality.auc_error < 1e-3


def test_of_many_rows_whole_classes_are_paired_and_the_record_says_how_many():
    rows, labels = clusters(300, 40, 6, 1.0)
    quality, again = (embedding_quality(rows, labels, most=100, seed=1) for _ in range(2))
    assert quality == again
    assert (quality.samples, quality.pair_samples) == (300, 100)
    assert quality.positives.count + quality.negatives.count == 100 * 99 // 2
    chosen = whole_classes(labels, 100, 1)
    cut = [c for c in set(labels[chosen]) if (labels[chosen] == c).sum() < (labels == c).sum()]
    assert len(cut) <= 1
    assert quality.isotropy == embedding_quality(rows, labels).isotropy
    near, far = pairs_by_loop(rows[chosen], labels[chosen])
    assert quality.positives.mean == pytest.approx(np.mean(near))
    assert quality.negatives.mean == pytest.approx(np.mean(far))
    other = embedding_quality(rows, labels, most=100, seed=2)
    assert other.positives != quality.positives
    with pytest.raises(ConfigError, match="block is 0, most 1"):
        embedding_quality(rows, labels, block=0, most=1)


def test_overlap_is_the_shared_area_of_both_histograms():
    quality = embedding_quality(*clusters(60, 3, 5, 1.5))
    p, q = (np.array(each.histogram) for each in (quality.positives, quality.negatives))
    assert quality.overlap == pytest.approx(np.minimum(p / p.sum(), q / q.sum()).sum())


def test_an_isotropic_space_scores_one_and_a_collapsed_one_the_least():
    axes = np.concatenate([np.eye(6), -np.eye(6)])
    even = embedding_quality(axes, np.arange(12))
    assert even.isotropy == pytest.approx(1.0)
    collapsed = embedding_quality(np.ones((12, 6)), np.arange(12))
    assert collapsed.isotropy == pytest.approx(math.exp(-2))
    assert collapsed.isotropy_printed == pytest.approx(math.exp(2))


def test_isotropy_follows_its_definition_and_ignores_mirroring():
    rows, labels = clusters(30, 3, 4, 0.5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    sums = [
        sum(math.exp(sign * float(c @ v)) for v in unit)
        for c in np.linalg.svd(unit)[2]
        for sign in (1, -1)
    ]
    assert embedding_quality(rows, labels).isotropy == pytest.approx(min(sums) / max(sums))
    assert embedding_quality(-3 * rows, labels).isotropy == pytest.approx(min(sums) / max(sums))


def test_separate_classes_have_an_auc_of_one_and_equal_rows_one_half():
    good = embedding_quality(*clusters(40, 4, 32, 0.05))
    assert good.auc == pytest.approx(1.0)
    assert good.overlap == 0
    same = embedding_quality(np.ones((6, 3)), [0, 0, 1, 1, 2, 2])
    assert same.auc == pytest.approx(0.5)
    assert same.overlap == pytest.approx(1.0)


def test_without_positives_or_negatives_there_is_no_auc():
    rows, _ = clusters(6, 2, 3, 1.0)
    alone, alike = embedding_quality(rows, np.arange(6)), embedding_quality(rows, np.zeros(6, int))
    assert alone.positives is None
    assert alike.negatives is None
    assert (alone.auc, alike.auc) == (None, None)


def test_a_report_is_a_picture_and_json_and_repeats_bit_for_bit(tmp_path):
    rows, labels = clusters(40, 25, 8, 0.5)
    quality = write_quality(tmp_path / "a", rows, labels, "clip", points=30)
    write_quality(tmp_path / "b", rows, labels, "clip", points=30)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"clip.json", "clip.png"}
    for name in ("clip.json", "clip.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    card = json.loads((tmp_path / "a" / "clip.json").read_text())
    assert card["auc"] == quality.auc
    assert card["positives"]["histogram"] == list(quality.positives.histogram)
    assert len(card["histogram_edges"]) == 129
    assert (tmp_path / "a" / "clip.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("n", [3, 12])
def test_a_report_of_few_or_of_equal_rows_is_made_too(tmp_path, n):
    write_quality(tmp_path, np.ones((n, 4)), np.arange(n) // 2, "same")
    assert (tmp_path / "same.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (np.ones(4), [0], "wanted .n, d."),
        (np.ones((3, 2)), [0, 1], r"labels are \(2,\)"),
        (np.ones((3, 2)), [0.0, 1.0, 1.0], "float64"),
        (np.array([[1, 0], [0, 0], [1, np.nan]]), [0, 0, 1], "2 of 3 .* row 1"),
    ],
)
def test_embeddings_that_cannot_be_measured_are_named(rows, labels, words):
    with pytest.raises(ConfigError, match=words):
        embedding_quality(rows, labels)
