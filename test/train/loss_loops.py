"""Slow oracles of robollm.train.losses: the printed formulas, symbol by symbol, one pair at a time.

Nothing is shared with the library, and nothing is stable: plain exp and log of float64 scalars, for
embeddings of moderate size. Each returns a scalar tensor, so autograd gives gradients to compare.
Where the thesis prints a sum over anchors, the mean over anchors with a positive is returned.
"""

import math

import torch


def transformed(cosine, name):
    if name == "sine":
        return torch.sin(math.pi * cosine / 2)
    if name == "sigmoid":
        return (2 / (1 + torch.exp(-5 * cosine)) - 1) / (2 / (1 + math.exp(-5)) - 1)
    if name == "sigmoid_shifted":
        return 1 / (1 + torch.exp(-10 * (cosine - 0.5)))
    return cosine


def info_nce(queries, references, scale, labels, transform="none", same="mask"):
    """Eq. 4.3 with the sum over all j, in both directions."""
    n, y = len(labels), labels.tolist()
    q, r = queries.unbind(), references.unbind()
    total = torch.zeros((), dtype=queries.dtype)
    for left, right in ((q, r), (r, q)):
        for i in range(n):
            e = [
                torch.exp(transformed((left[i] * right[j]).sum(), transform) * scale)
                for j in range(n)
            ]
            if same == "mask":
                below = sum(e[j] for j in range(n) if j == i or y[j] != y[i])
                total = total - torch.log(e[i] / below)
            else:
                positives = [j for j in range(n) if y[j] == y[i]]
                for j in positives:
                    total = total - torch.log(e[j] / sum(e)) / len(positives)
    return total / (2 * n)


def sets(labels, i):
    """P(i) and N(i)."""
    y = labels.tolist()
    return (
        [j for j in range(len(y)) if j != i and y[j] == y[i]],
        [j for j in range(len(y)) if y[j] != y[i]],
    )


def over_anchors(labels, one):
    """The mean of `one(i, P, N)` over the anchors with a positive."""
    each = [one(i, *sets(labels, i)) for i in range(len(labels)) if len(sets(labels, i)[0]) > 0]
    return sum(each) / len(each)


def lacvit(z, labels, tau):
    """Eq. 5.1."""
    rows = z.unbind()

    def one(i, positive, negative):
        below = sum(torch.exp((rows[i] * rows[a]).sum() / tau) for a in positive + negative)
        return (-1 / len(positive)) * sum(
            torch.log(torch.exp((rows[i] * rows[p]).sum() / tau) / below) for p in positive
        )

    return over_anchors(labels, one)


def lacln(x, labels, tau):
    """Eq. 5.4."""
    rows = x.unbind()

    def one(i, positive, negative):
        up = sum(torch.exp((rows[i] * rows[p]).sum() / tau) for p in positive)
        e = [torch.exp((rows[i] * rows[k]).sum() / tau) for k in negative]
        total = sum(e)
        down = sum(len(negative) / total * each**2 for each in e)
        return -torch.log(1 / len(positive) * up / (up + down))

    return over_anchors(labels, one)


def cross_entropy(logits, labels):
    """Eq. 5.3 with one-hot labels."""
    total = torch.zeros((), dtype=logits.dtype)
    for row, c in zip(logits.unbind(), labels.tolist(), strict=True):
        total = total + torch.log(torch.exp(row[c]) / sum(torch.exp(v) for v in row.unbind()))
    return -total / len(labels)


def clce(x, labels, logits, logit_labels, weight, tau):
    """Eq. 5.2."""
    return (1 - weight) * cross_entropy(logits, logit_labels) + weight * lacln(x, labels, tau)


def sup_in(x, labels, tau):
    """Eq. 5.9."""
    rows = x.unbind()

    def one(i, positive, negative):
        up = sum(torch.exp((rows[i] * rows[k]).sum() / tau) for k in positive)
        down = sum(torch.exp((rows[i] * rows[k]).sum() / tau) for k in negative)
        return -torch.log(1 / len(positive) * up / (up + down))

    return over_anchors(labels, one)


def tilted(s, beta):
    """Eq. 5.16 with 5.18: the mean of exp((beta + 1) s) / Z, Z the mean of exp(beta s)."""
    z = sum(torch.exp(beta * each) for each in s) / len(s)
    return sum(torch.exp((beta + 1) * each) / z for each in s) / len(s)


def scl_rhe(
    x,
    labels,
    *,
    temperature,
    tau_plus,
    tau_minus,
    beta_positive,
    beta_negative,
    q=None,
    w=None,
    positives="aim",
):
    """Eq. 5.19; each bracket is at least what it would be if all its cosines were -1."""
    rows = x.unbind()
    sign = {"aim": -1, "printed": 1}[positives]
    least = math.exp(-1 / temperature)

    def one(i, positive, negative):
        near = [(rows[i] * rows[k]).sum() / temperature for k in positive]
        far = [(rows[i] * rows[k]).sum() / temperature for k in negative]
        big_k, big_n = len(near), len(far)
        if big_n == 0:
            return torch.log(torch.tensor(float(big_k), dtype=x.dtype)) + 0 * near[0]
        bracket = tilted(near, sign * beta_positive) - (1 - tau_plus) * tilted(
            far, sign * beta_positive
        )
        u = (big_k if q is None else q) / tau_plus * bracket.clamp(min=tau_plus * least)
        bracket = tilted(far, beta_negative) - (1 - tau_minus) * tilted(near, beta_negative)
        v = (big_n if w is None else w) / tau_minus * bracket.clamp(min=tau_minus * least)
        return -torch.log(1 / big_k * u / (u + v))

    return over_anchors(labels, one)
