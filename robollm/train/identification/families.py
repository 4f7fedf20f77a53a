"""Products that look alike, guessed from their titles: ARMBench says nothing about families."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from robollm.core.errors import ConfigError
from robollm.data.problems import Problems

_LARGE, _LARGE_SHARE = 10, 0.1
_WORD = re.compile(r"\w+")


def words(title: str) -> frozenset[str]:
    """The words and numbers of a title, small letters."""
    return frozenset(_WORD.findall(title.lower()))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Words in both as a share of words in either (Jaccard); 0 without words."""
    return len(one & other) / len(one | other) if one and other else 0.0


class TitleIndex:
    """Finds products with similar titles, without comparing all with all.

    Args:
        titles: Product-ID -> title; products without one are like no other.
        most: a word of more products than this doesn't lead to candidates on its own; keeps
            "the" from making every product a candidate.
    """

    def __init__(self, titles: Mapping[str, str], most: int = 2000) -> None:
        self.words = {product: words(title) for product, title in sorted(titles.items())}
        self._with: dict[str, list[str]] = defaultdict(list)
        for product, its in self.words.items():
            for word in sorted(its):
                self._with[word].append(product)
        self._most = most

    def rarest(self, product: str) -> list[str]:
        """The words of a product's title, rare ones first."""
        return sorted(self.words.get(product, ()), key=lambda w: (len(self._with[w]), w))

    def nearest(self, product: str, allowed: frozenset[str]) -> list[str]:
        """The most similar other products, all that share the first place.

        Args:
            product: Product-ID.
            allowed: who may be found.

        Returns:
            Product-IDs, sorted; empty if no other title shares a word that counts.
        """
        shared: Counter[str] = Counter()
        for word in self.rarest(product):
            if len(self._with[word]) <= self._most:
                shared.update(self._with[word])
        own = self.words.get(product, frozenset())
        scores = {
            other: similarity(own, self.words[other])
            for other in shared
            if other != product and other in allowed
        }
        best = max(scores.values(), default=0.0)
        return sorted(other for other, score in scores.items() if score == best)


def families(titles: Mapping[str, str], threshold: float = 0.5) -> dict[str, int]:
    """Group products by title.

    In the order of their ids, a product joins the family whose first member has the most similar
    title, if that similarity (see `similarity`) is at least `threshold`; else it founds one.
    Compared with first members only, families don't grow into chains whose ends differ.

    Args:
        titles: Product-ID -> title.
        threshold: in (0, 1]. Variants of one article ("..., Salmon, 170 g", "..., Beef, 170 g")
            have about .6 to .8, strangers under .4.

    Returns:
        Product-ID -> number of its family, from 0.

    Raises:
        ConfigError: for a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold is {threshold}, want 0 < threshold <= 1", fix="try 0.5")
    index = TitleIndex(titles)
    founders: dict[str, list[str]] = defaultdict(list)
    number: dict[str, int] = {}
    count = 0
    for product in sorted(titles):
        its = index.words[product]
        ordered = index.rarest(product)
        # Two sets with similarity >= t share one of the len - ceil(t * len) + 1 rarest words.
        prefix = ordered[: len(ordered) - int(np.ceil(threshold * len(ordered))) + 1]
        near = sorted({f for word in prefix for f in founders[word]})
        scores = [similarity(its, index.words[f]) for f in near]
        best = int(np.argmax(scores)) if scores else -1
        if best >= 0 and scores[best] >= threshold:
            number[product] = number[near[best]]
            continue
        number[product] = count
        count += 1
        for word in prefix:
            founders[word].append(product)
    return number


def note_large(
    number: Mapping[str, int], titles: Mapping[str, str], where: Path, problems: Problems
) -> None:
    """Note `large_family` if one family has more than a tenth of the products with a title.

    Then the titles are probably none, but weights or stock phrases. Up to 10 products are no sign.

    Args:
        number: Product-ID -> its family.
        titles: Product-ID -> title.
        where: the titles come from.
        problems: gets it.
    """
    titled = [p for p in sorted(number) if titles.get(p)]
    sizes = Counter(number[p] for p in titled)
    family, size = max(sizes.items(), key=lambda one: (one[1], -one[0]), default=(0, 0))
    if size > max(_LARGE, _LARGE_SHARE * len(titled)):
        one = next(titles[p] for p in titled if number[p] == family)
        problems.note(
            "large_family",
            where,
            f"{size} of {len(titled)} products with a title are of one family, such as {one!r}",
            "used; check how containers name their products",
        )


def mislabel(
    truths: Mapping[str, str],
    titles: Mapping[str, str],
    allowed: Sequence[str],
    *,
    share: float,
    confusable: bool,
    seed: int,
) -> dict[str, str]:
    """Wrong labels for a study of how well a loss bears them.

    Args:
        truths: Pick-ID -> its true product.
        titles: Product-ID -> title.
        allowed: products that a wrong label may name.
        share: of the picks, rounded to whole picks.
        confusable: another product of the same family; where there is none, the one with the
            nearest title; where no title is near, any. False: any other product.
        seed: of the choice.

    Returns:
        Pick-ID -> wrong product, for the picks that are mislabelled.

    Raises:
        ConfigError: for a share out of range, or if there is no other product.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"label_noise is {share}, want 0 to 1", fix="set it as a share")
    rng = np.random.default_rng([seed, 2])
    picks = sorted(truths)
    chosen = sorted(int(i) for i in rng.permutation(len(picks))[: round(share * len(picks))])
    others = sorted(set(allowed))
    if chosen and len(others) < 2:
        raise ConfigError("label_noise needs at least 2 products", fix="set it to 0")
    if not chosen:
        return {}
    known = {p: titles[p] for p in others if p in titles} if confusable else {}
    index, family = TitleIndex(known), families(known)
    members: dict[int, list[str]] = defaultdict(list)
    for product, group in sorted(family.items()):
        members[group].append(product)
    wrong = {}
    for i in chosen:
        truth = truths[picks[i]]
        near: list[str] = []
        if confusable and truth in known:
            near = [p for p in members[family[truth]] if p != truth]
            near = near or index.nearest(truth, frozenset(others))
        near = near or [p for p in others if p != truth]
        wrong[picks[i]] = near[int(rng.integers(len(near)))]
    return wrong
