"""What figures may be on other samples: percentile bootstrap over units (Efron, 1979)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.core.rates import at_least, at_most
from robollm.metrics.tally import Share, Tally, Vector, places, worth

FEWEST = 3
"""Units below which nothing is said: a resample of two is too often one of them alone."""
_ENOUGH = 0.9  # of the draws: a figure of one or two units is NaN in more than the rest
_ROUNDING = 1e-12  # what is closer is equal


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and what it may be.

    Attributes:
        value: on all units as they are; NaN: there is nothing to count.
        low: lower limit; NaN: too few units to say.
        high: upper limit; NaN: too few units to say.
        cases: what it rests on: independent cases; of a figure that is not from 0 to 1, units.
    """

    value: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure in two runs over the same units.

    Attributes:
        a: its value in the first.
        b: its value in the second.
        delta: b - a.
        low: lower limit of `delta`; NaN: too few units to say.
        high: upper limit of `delta`; NaN: too few units to say.
        p: two-sided, of no difference; never 0; 1: too few units to say.
        error: standard error of `delta`, from the draws; NaN: too few units to say.
        cases: independent cases that the figure rests on, in the run with fewer; NaN: it is not
            from 0 to 1, or has none.
    """

    a: float
    b: float
    delta: float
    low: float
    high: float
    p: float
    error: float = math.nan
    cases: float = math.nan


def intervals(
    tally: Tally,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    drawn: Callable[[], None] = lambda: None,
) -> dict[str, Interval]:
    """Every figure of a tally with its limits.

    Limits are percentiles of the figure over resamples of the units. Of a figure of exactly 0 or 1
    they would claim certainty, so there they are widened to Clopper and Pearson's limits of a
    share of as many independent cases (see `Tally.share`). That is exact for a share, and on the
    safe side for a mean and for an AUC, as no more pairs are disjoint; for an average precision it
    is a convention. Such a figure of one or two units has these limits alone.

    Limits always hold the value between them: a figure such as an expected calibration error is
    larger on resamples than on the data, and all its percentiles may lie above it.

    Args:
        tally: what was counted.
        draws: resamples.
        level: that the limits hold, two-sided.
        seed: of the draws; the same seed and units give the same resamples.
        drawn: called after each draw.

    Returns:
        name -> interval.

    Raises:
        ConfigError: for draws or a level out of range.
    """
    _check(draws, level)
    return _with_limits(tally, *_drawn(tally, draws, seed, drawn), level)


def _drawn(
    tally: Tally, draws: int, seed: int, drawn: Callable[[], None] = lambda: None
) -> tuple[dict[str, float], Vector]:
    """All figures, and (draws, figures) of the resamples."""
    values = tally.figures()
    rows = []
    for counts in _resamples(len(tally.units), draws, seed):
        rows.append(tally.figures(counts))
        drawn()
    return values, _table(rows, values)


def _with_limits(
    tally: Tally, values: dict[str, float], drawn: Vector, level: float
) -> dict[str, Interval]:
    units = len(tally.units)
    out = {}
    for (name, value), column in zip(values.items(), drawn.T, strict=True):
        share = tally.share(name)
        limits = _percentiles(column, value, units, level)
        cases = units
        if share is not None:
            of = worth(share[1])
            cases = round(of)
            if of and (math.isnan(limits[0]) or min(abs(value), abs(1 - value)) < _ROUNDING):
                limits = _wider(limits, _exact(value, of, level))
        if math.isnan(value):
            limits, cases = (math.nan, math.nan), 0
        out[name] = Interval(value, *limits, cases)
    return out


def paired(
    a: Tally, b: Tally, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """Differences of the figures that two tallies share, from the same resamples of both.

    p is the larger of two. The bootstrap's: with k = 2 min(draws with a delta of 0 or less, of 0
    or more) of n, (k + 1) / (n + 1). It is bold where few units differ: of four, all for the worse,
    it says .04. So a share is put to the test of Fisher and Pitman as well: what if each unit's
    difference could as well be the other way round? (Of units of one case each that is McNemar's,
    or the sign test: .125.) Of figures that are no shares, p is at least what the sign test could
    say of as many units. Where p is above 1 - level, the limits hold 0.

    A constant that a figure has beside its share (a margin) is dealt out over the cases.

    Args:
        a: the first.
        b: the second, of the same units; their order may differ.
        draws: resamples.
        level: that the limits hold, two-sided.
        seed: of the draws.

    Returns:
        name -> difference, in the first one's order.

    Raises:
        EvalError: if the units are not the same.
        ConfigError: for draws or a level out of range.
    """
    _check(draws, level)
    place = places(a.units, b.units)
    units = len(a.units)
    of_a, of_b = a.figures(), b.figures()
    names = [n for n in of_a if n in of_b]
    first = {n: of_a[n] for n in names}
    pairs = [(a.figures(c), b.figures(c[place])) for c in _resamples(units, draws, seed)]
    drawn = _deltas(_table([x for x, _ in pairs], first), _table([y for _, y in pairs], first))
    deltas = {n: float(_deltas(np.array(of_a[n]), np.array(of_b[n]))) for n in names}
    shares = {n: (a.share(n), _aligned(b.share(n), place)) for n in names}
    parts = {n: _parts(*shares[n], deltas[n]) for n in names}
    flipped = _flipped({n: part for n, part in parts.items() if part is not None}, draws, seed)
    out = {}
    for name, column in zip(names, drawn.T, strict=True):
        delta, p = deltas[name], 1.0
        low, high = _percentiles(column, delta, units, level)
        if not math.isnan(low):
            bold = 2.0 ** (1 - _moving(shares[name], units))
            p = max(_p(column[~np.isnan(column)]), min(1.0, flipped.get(name, bold)))
            if p > 1 - level:
                low, high = min(low, 0.0), max(high, 0.0)
        error = math.nan if math.isnan(low) else float(np.nanstd(column))
        cases = min((worth(s[1]) for s in shares[name] if s is not None), default=0.0)
        out[name] = Difference(
            of_a[name], of_b[name], delta, low, high, p, error, cases or math.nan
        )
    return out


def independent(
    a: Tally, b: Tally, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """Differences of the figures that two tallies of other units share, as of two test sets.

    Each is resampled by itself. Limits are percentiles of the draws' differences. Where a figure
    is exactly 0 or 1 in either, its resamples don't move, so there the limits are widened to those
    that the two intervals give (Zou and Donner, 2008: squares of the distances to the limits add
    up). p is the bootstrap's alone, as of `paired`.

    Args:
        a: the first.
        b: the second.
        draws: resamples of each.
        level: that the limits hold, two-sided.
        seed: of the draws; the second's are others.

    Returns:
        name -> difference, b - a, in the first one's order.

    Raises:
        ConfigError: for draws or a level out of range.
    """
    _check(draws, level)
    (of_a, drawn_a), (of_b, drawn_b) = _drawn(a, draws, seed), _drawn(b, draws, seed + 1)
    alone_a, alone_b = (
        _with_limits(a, of_a, drawn_a, level), _with_limits(b, of_b, drawn_b, level)
    )  # fmt: skip
    place_a, place_b = list(of_a), list(of_b)
    out = {}
    for name in (n for n in of_a if n in of_b):
        one, two = alone_a[name], alone_b[name]
        delta = two.value - one.value
        column = drawn_b[:, place_b.index(name)] - drawn_a[:, place_a.index(name)]
        low, high = _percentiles(column, delta, min(len(a.units), len(b.units)), level)
        if any(min(abs(i.value), abs(1 - i.value)) < _ROUNDING for i in (one, two)):
            below = math.hypot(two.value - two.low, one.high - one.value)
            above = math.hypot(two.high - two.value, one.value - one.low)
            low, high = _wider((low, high), (delta - below, delta + above))
        there = column[~np.isnan(column)]
        p = 1.0 if math.isnan(low) or not len(there) else _p(there)
        out[name] = Difference(one.value, two.value, delta, low, high, p)
    return out


def _check(draws: int, level: float) -> None:
    if draws < 1 or not 0 < level < 1:
        raise ConfigError(
            f"{draws} draws at level {level:g}; want 1 draw or more, and a level between 0 and 1",
            fix="leave both out for 1000 and .95",
        )


def _resamples(units: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each of (U,) units is drawn, with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    for _ in range(draws if units else 0):
        yield np.bincount(rng.integers(units, size=units), minlength=units).astype(np.int64)


def _table(rows: list[dict[str, float]], like: dict[str, float]) -> Vector:
    """(draws, figures) in the order of `like`."""
    return np.array([[row[n] for n in like] for row in rows], np.float64).reshape(-1, len(like))


def _percentiles(drawn: Vector, value: float, units: int, level: float) -> tuple[float, float]:
    """Limits from (draws,) values, NaN left out, around the value; NaN if too few are left."""
    there = drawn[~np.isnan(drawn)]
    if units < FEWEST or len(there) < _ENOUGH * len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
    return min(float(low), value), max(float(high), value)


def _exact(share: float, cases: float, level: float) -> tuple[float, float]:
    """Clopper and Pearson's two limits."""
    one_sided = (1 + level) / 2
    hits = share * cases
    return at_least(hits, cases, one_sided), at_most(hits, cases, one_sided)


def _wider(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Limits that hold both; NaN ones hold nothing."""
    return float(np.fmin(a[0], b[0])), float(np.fmax(a[1], b[1]))


def _deltas(a: Vector, b: Vector) -> Vector:
    """Differences without those of rounding: sums of the same numbers in another order."""
    return np.where(np.abs(b - a) <= _ROUNDING * np.maximum(np.abs(a), 1), 0.0, b - a)


def _p(deltas: Vector) -> float:
    n = len(deltas)
    k = 2 * min(int((deltas <= 0).sum()), int((deltas >= 0).sum()))
    return (min(k, n) + 1) / (n + 1)


def _aligned(share: Share | None, place: NDArray[np.intp]) -> Share | None:
    """Of the second run, in the first one's order of units."""
    if share is None:
        return None
    back = np.argsort(place)
    hits, cases = share
    return (None if hits is None else hits[back]), cases[back]


def _moving(shares: tuple[Share | None, Share | None], units: int) -> int:
    """How many units a figure rests on, in either run."""
    cases = [share[1] > 0 for share in shares if share is not None]
    return int(np.logical_or.reduce(cases).sum()) if cases else units


def _parts(a: Share | None, b: Share | None, delta: float) -> Vector | None:
    """(U,) what each unit adds to the difference of two shares; None: they are none."""
    if a is None or b is None or a[0] is None or b[0] is None or math.isnan(delta):
        return None
    (hits_a, cases_a), (hits_b, cases_b) = (a[0], a[1]), (b[0], b[1])
    of_a, of_b = cases_a.sum(), cases_b.sum()
    # Cases may differ (precision): a unit counts by its hits above the share of both, so that one
    # that is the same in both adds nothing. The parts add up to the difference.
    share = (hits_a.sum() / of_a + hits_b.sum() / of_b) / 2
    parts = ((hits_b - hits_a) - share * (cases_b - cases_a)) * 2 / (of_a + of_b)
    beside = delta - parts.sum()
    if abs(beside) > _ROUNDING:
        parts = parts + beside * (cases_a + cases_b) / (of_a + of_b)
    return np.where(np.abs(parts) > _ROUNDING / len(parts), parts, 0.0)


def _flipped(parts: dict[str, Vector], draws: int, seed: int) -> dict[str, float]:
    """P of each sum of (U,) parts, by draws of their signs (Fisher, 1935; Pitman, 1937)."""
    if not parts:
        return {}
    table = np.stack(list(parts.values()), axis=1)
    table = table[table.any(axis=1)]
    least = np.abs(table.sum(axis=0)) - _ROUNDING
    rng, reached = np.random.default_rng([seed, 1]), np.ones(len(parts))
    for _ in range(draws):
        signs = rng.integers(2, size=len(table)) * 2.0 - 1
        reached += np.abs(signs @ table) >= least
    return dict(zip(parts, (reached / (draws + 1)).tolist(), strict=True))
