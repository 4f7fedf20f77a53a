"""A made-up catalogue's embeddings for bench/gallery.py: look-alikes, near-duplicates, and picks.

768 numbers, made of a common direction, 96 others whose share falls as rank^-.8, and a little grain
in all. A product is a category (400 centres), a family of look-alikes in it (2.5 products on
average, some with ten), and its own part, often small; 1 % of products are the one before them sold
a second time, with nearly the same vectors (cosine .9999). References of a product differ by view
and light; a pick differs more, by a shift that all picks share (another camera, another light) and
by noise of its own. A smaller catalogue is the beginning of a larger one, every block of 4,096
products has seeds of its own, so any part can be made alone.

How real is it? Checked once against 2,160 references and 721 picks of 360 simulated products, which
a multi-task model trained for minutes embeds in 128 numbers (5, 50 and 95 % of cosines):

                                       that model        here (40,000 products)
    two references of a product        .92  .99  1.0     .98  .99  1.0
    a pick and its own references      .72  .93  .98     .93  .98  .99
    references of two products         .42  .77  .99    -.01  .50  .78
    length of the mean vector          .87               .68
    directions with 90 / 99 % of it    3 / 12            20 / 78
    dimension by two neighbours        4 to 5            5

Same shape (few directions, one common to all, picks apart from references), but that model is weak:
it names 3 to 8 % of picks among 360 products. The figures here were chosen for a good one, which
is published (RoboLLM, one view) with recall@1 .98 in a container and .75 among 190,000. Here it is
.997 in a container of 20, and .86, .86, .83, .82 among 1,000, 10,000, 40,000, 190,000 products:
most mistakes are look-alikes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

DIM = 768
BLOCK = 4096
LATENT, DECAY = 96, 0.8
CATEGORIES, FAMILY, DUPLICATES = 400, 2.5, 0.01
COMMON, CATEGORY, LOOK, OWN, COPY = 0.9, 0.75, 0.5, 0.5, 0.01
VIEW, PICK, SHIFT, GRAIN = 0.12, 0.15, 0.2, 0.05
PICK_BLOCKS = 8

Floats = NDArray[np.float32]


def ids(numbers: Sequence[int] | range) -> list[str]:
    """Product ids, which sort as the numbers do."""
    return [f"P{n:08d}" for n in numbers]


class Catalogue:
    """Products 0 .. `products` - 1, each with `each` reference vectors.

    Args:
        products: how many.
        each: references of a product.
        seed: another seed, another catalogue.
    """

    def __init__(self, products: int, each: int = 1, *, seed: int = 6) -> None:
        self.products, self.each, self._seed = products, each, seed
        rng = np.random.default_rng([seed, 0])
        basis = np.linalg.qr(rng.standard_normal((DIM, LATENT + 1)))[0].T.astype(np.float32)
        share = np.arange(1, LATENT + 1, dtype=np.float32) ** -DECAY
        self._common = COMMON * basis[0]
        self._basis = basis[1:] * (share / np.linalg.norm(share))[:, None]
        self._centres = CATEGORY * rng.standard_normal((CATEGORIES, LATENT), np.float32)
        self._shift = SHIFT * rng.standard_normal(LATENT, np.float32)

    def blocks(self) -> Iterator[tuple[range, Floats]]:
        """Product numbers, and their vectors: (P, each, DIM) float32, unit length."""
        for first in range(0, self.products, BLOCK):
            numbers = range(first, min(first + BLOCK, self.products))
            latent = self._latent(first // BLOCK)
            copies = self._copies(first // BLOCK)
            out = np.empty((len(numbers), self.each, DIM), np.float32)
            for k in range(self.each):
                rng = np.random.default_rng([self._seed, 2, first // BLOCK, k])
                seen = latent + VIEW * rng.standard_normal(latent.shape, np.float32)
                rows = self._vectors(seen, rng)
                grain = rng.standard_normal((len(copies), DIM), np.float32)
                rows[copies] = _unit(rows[copies - 1] + COPY / DIM**0.5 * grain)
                out[:, k] = rows[: len(numbers)]
            yield numbers, out

    def picks(self, count: int, *, seed: int = 0) -> tuple[NDArray[np.int64], Floats]:
        """Pictures of products as a robot sees them.

        Args:
            count: how many.
            seed: another seed, other picks.

        Returns:
            The true product numbers, (count,), and (count, DIM) float32, unit length. They come
            from at most 8 blocks, spread evenly, so that a large catalogue needn't be made for it.
        """
        rng = np.random.default_rng([self._seed, 3, seed])
        whole = -(-self.products // BLOCK)
        used = np.unique(np.linspace(0, whole - 1, min(whole, PICK_BLOCKS)).astype(int))
        part = rng.integers(len(used), size=count)
        truth = np.empty(count, np.int64)
        vectors = np.empty((count, DIM), np.float32)
        for i, block in enumerate(used):
            mine = np.flatnonzero(part == i)
            top = min(BLOCK, self.products - block * BLOCK)
            of = rng.integers(top, size=len(mine))
            size = PICK * rng.gamma(2, 0.5, (len(mine), 1)).astype(np.float32)
            seen = self._latent(int(block))[of] + self._shift
            seen += size * rng.standard_normal(seen.shape, np.float32)
            truth[mine], vectors[mine] = block * BLOCK + of, self._vectors(seen, rng)
        return truth, vectors

    def containers(self, truth: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Manifests of some true products, (C, n), and chance ones: (C, size) product numbers."""
        rng = np.random.default_rng([self._seed, 4, size])
        rows = []
        for some in truth:
            wanted = np.unique(some)
            others = np.setdiff1d(rng.integers(self.products, size=4 * size), wanted)
            more = rng.permutation(others)[: size - len(wanted)]
            rows.append(np.concatenate([wanted, more]))
        return np.stack(rows)

    def _latent(self, block: int) -> Floats:
        """(BLOCK, LATENT) float32: what a block's products are like, whatever is seen of them."""
        rng = np.random.default_rng([self._seed, 1, block])
        family = np.cumsum(rng.random(BLOCK) < 1 / FAMILY)
        families = int(family[-1]) + 1
        look = self._centres[rng.integers(CATEGORIES, size=families)]
        look = look + LOOK * rng.standard_normal(look.shape, np.float32)
        apart = OWN * rng.gamma(2, 0.5, (BLOCK, 1)).astype(np.float32)
        latent = look[family] + apart * rng.standard_normal((BLOCK, LATENT), np.float32)
        copies = self._copies(block)
        latent[copies] = latent[copies - 1]
        return np.asarray(latent, np.float32)

    def _copies(self, block: int) -> NDArray[np.intp]:
        """Which of a block's products are sold a second time: the same picture, packed anew."""
        rng = np.random.default_rng([self._seed, 5, block])
        return np.flatnonzero(rng.random(BLOCK - 1) < DUPLICATES) + 1

    def _vectors(self, latent: Floats, rng: np.random.Generator) -> Floats:
        x = latent @ self._basis
        x += self._common
        x += np.float32(GRAIN / DIM**0.5) * rng.standard_normal(x.shape, np.float32)
        return _unit(x)


def _unit(x: Floats) -> Floats:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)
