"""Scoring identification: queries against references to recall, open-set curves, worst picks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.eval.embedding import flatten
from robollm.eval.figures import Cell, Curve, Embeddings, Histogram, Section, Table, Worst
from robollm.eval.records import IdentificationRecord, Json, unpack_vector
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks.given_gallery import references_of
from robollm.eval.tasks.scored import Notes, Scored, no_answer, worst
from robollm.eval.tasks.training import learned_from
from robollm.metrics.bootstrap import Interval
from robollm.metrics.joined import Joined
from robollm.metrics.open_set import OpenSetTally
from robollm.metrics.retrieval import (
    MANIFESTS,
    QUERIES,
    Gallery,
    PickRanks,
    Query,
    RetrievalTally,
    rank_picks,
)
from robollm.metrics.tally import Tally

MOST_POINTS = 600
"""Of the plot of the embedding space; half of them queries, at least."""
BINS = 40


def pick_ranks(run: RunFolder, records: Iterable[IdentificationRecord]) -> list[PickRanks]:
    """How the picks came out, in the records' order.

    Raises:
        GalleryError: if the references are missing, damaged, or another predictor's.
        EvalError: if they were given to the run, and have changed since.
    """
    return list(rank_picks(map(query_of, records), references_of(run)))


def score(records: Iterable[IdentificationRecord], run: RunFolder) -> Scored:
    """Count the picks of a run.

    Args:
        records: of the stream; read once, one at a time.
        run: whose card tells where the references are.

    Raises:
        GalleryError: see `pick_ranks`.
        EvalError: if there are no picks.
    """
    notes, seen = Notes(), _Seen()
    gallery = references_of(run)
    picks = list(rank_picks(map(query_of, seen.of(notes.of(records))), gallery))
    recall = RetrievalTally(picks)
    asked = [q for q in ("n1", "n3") if any(q in p.leads for p in picks)]
    opened = {q: OpenSetTally.of(picks, q, suffix=f"_{q}") for q in asked}
    tally: Tally = Joined([recall, *opened.values()])

    def section(figures: Mapping[str, Interval]) -> Section:
        main = main_query(run.card, asked)
        made = Section(
            task="identification",
            subset="",
            split=run.card["data"]["split"],
            protocol=_protocol(run, gallery),
            crop=run.card.get("settings", {}).get("identification_crop", "image"),
            samples=notes.samples,
            units=len(tally.units),
            unit="product",
            figures=figures,
            curves={f"open_set_{q}": _open_curve(one, q) for q, one in opened.items()},
            tables={"manifest": _by_manifest(picks, figures)},
            histograms=_cosines(picks, main),
            counts={
                **recall.counts,
                **seen.counts,
                "products_with_references": len(gallery.products),
                "reference_images": len(gallery.vectors),
            },
            worst=worst(_worst(picks, seen.errors, main)),
            embeddings=_space(seen.points, picks, gallery, main),
        )
        return notes.complete(made)

    return Scored(tally, section)


def query_of(record: IdentificationRecord) -> Query:
    """A pick as the metrics take it: what can't be asked is absent."""
    vectors = {n: unpack_vector(t) for n, t in record.vectors.items()} if not record.error else {}
    views = [v for name, v in vectors.items() if name in record.files]
    asks: dict[str, NDArray[np.float32]] = {
        name: vectors[name] for name in ("n1", "n3") if name in vectors
    }
    if views:
        asks["n3max"] = np.stack(views)
    return Query(record.key, record.truth, tuple(record.manifest), asks)


def main_query(card: Json, asked: Sequence[str]) -> str:
    """The query that worst picks and pictures are of: as the bundle joins views, else one view."""
    several = len(card["predictor"].get("fused_views", ())) > 1
    return next((q for q in (("n3", "n1") if several else ("n1", "n3")) if q in asked), "n1")


class _Seen:
    """What passes by beside the ranks."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.counts = {"views_left_out": 0}
        self.points: list[tuple[str, str, NDArray[np.float32]]] = []

    def of(self, records: Iterable[IdentificationRecord]) -> Iterator[IdentificationRecord]:
        for one in records:
            if one.error is not None:
                self.errors[one.key] = no_answer(one)
            else:
                lost = sum(view not in one.vectors for view in one.files)
                self.counts["views_left_out"] += lost
                name = next((n for n in ("n1", "n3") if n in one.vectors), None)
                if name and len(self.points) < MOST_POINTS:
                    self.points.append((one.key, one.truth, unpack_vector(one.vectors[name])))
            yield one


def _open_curve(tally: OpenSetTally, query: str) -> Curve:
    accept, reject = tally.curve()
    axes = "false accept", "false reject"
    return Curve(
        "open-set", tuple(accept.tolist()), tuple(reject.tolist()), *axes, f"N={query[1:]}"
    )


def _by_manifest(picks: Sequence[PickRanks], figures: Mapping[str, Interval]) -> Table:
    name = "recall@1_container_product_{}_manifest-{}"
    query = next((q for q in QUERIES if any(name.format(q, m) in figures for m in MANIFESTS)), "n1")
    rows: list[tuple[Cell, ...]] = []
    for label, (low, high) in MANIFESTS.items():
        mine = sum(low <= p.size <= high for p in picks)
        one = figures.get(name.format(query, label))
        rows.append((label, mine, *((one.value, one.low, one.high) if one else (None,) * 3)))
    columns = ("products in the container", "picks", "recall@1", "low", "high")
    note = f"Recall@1 among the container's products, {query}."
    return Table(columns, tuple(rows), note)


def _cosines(picks: Sequence[PickRanks], query: str) -> dict[str, Histogram]:
    """How near the true product is, and the best other one of the container."""
    edges = np.linspace(-1, 1, BINS + 1)
    out = {}
    for name, side in (("true product", 0), ("best other product", 1)):
        values = [p.leads[query][side] for p in picks if query in p.leads]
        there = np.array([v for v in values if np.isfinite(v)])
        counts, _ = np.histogram(np.clip(there, -1, 1), edges)
        out[f"cosine: {name}"] = Histogram(
            tuple(edges.tolist()), tuple(int(n) for n in counts), "cosine"
        )
    return out


def _worst(picks: Sequence[PickRanks], errors: Mapping[str, str], query: str) -> Iterator[Worst]:
    for pick in picks:
        if pick.key in errors:
            yield Worst(pick.key, 2.0, errors[pick.key], {"outcome": "no answer"})
            continue
        lead = pick.leads.get(query)
        if lead is None:
            what = f"The view that N={query[1:]} asks with is missing."
            yield Worst(pick.key, 2.0, what, {"outcome": "no answer"})
        elif not np.isfinite(lead.right):
            where = "its container's list" if pick.known else "the reference images"
            what = f"The true product {pick.product} is not among {where}."
            facts = {"outcome": "no reference", "answer": lead.other}
            yield Worst(pick.key, 1.9, what, facts)
        elif not np.isfinite(lead.wrong):
            continue  # alone in its container: nothing could go wrong
        elif lead.wrong >= lead.right:
            what = (
                f"{lead.other} (cosine {lead.wrong:.3f}) comes before the true product "
                f"{pick.product} ({lead.right:.3f}), of {pick.choice} in the container."
            )
            facts = {"outcome": "wrong product", "answer": lead.other}
            yield Worst(pick.key, lead.wrong - lead.right, what, facts)
        else:
            what = (
                f"Right, but {lead.other} (cosine {lead.wrong:.3f}) is only "
                f"{lead.right - lead.wrong:.3f} behind."
            )
            facts = {"outcome": "right, but near", "answer": pick.product}
            yield Worst(pick.key, lead.wrong - lead.right, what, facts)


def _space(
    points: Sequence[tuple[str, str, NDArray[np.float32]]],
    picks: Sequence[PickRanks],
    gallery: Gallery,
    query: str,
) -> Embeddings | None:
    if not points:
        return None
    chosen = points[:: max(1, -(-len(points) // (MOST_POINTS // 2)))]
    leads = {p.key: p.leads.get(query) for p in picks}
    number = {product: row for row, product in enumerate(gallery.products)}
    here = sorted({number[truth] for _, truth, _ in chosen if truth in number})
    known = np.array(here, np.int64)
    rows = [
        first + k
        for first, size in zip(gallery.starts[known], gallery.sizes_of(known), strict=True)
        for k in range(int(size))
    ][: MOST_POINTS - len(chosen)]
    owner = np.searchsorted(gallery.starts, rows, side="right") - 1
    vectors = np.stack([*(v for _, _, v in chosen), *(gallery.vectors[r] for r in rows)])
    places, kept, method = flatten(vectors)
    about: list[tuple[str, bool | None]] = [
        (truth, bool((lead := leads[key]) and lead.right > lead.wrong)) for key, truth, _ in chosen
    ]
    about += [(gallery.products[o], None) for o in owner.tolist()]
    made = ((float(x), float(y), *about[k]) for (x, y), k in zip(places, kept, strict=True))
    return Embeddings(tuple(made), method)


def _protocol(run: RunFolder, gallery: Gallery) -> str:
    settings, card = run.card.get("settings", {}), run.card
    what = {
        "all": "all reference images",
        "split": "references of the split's products and of the picks' containers",
        "manifests": "references of the picks' containers alone: 'all' is no whole gallery",
        "given": "the gallery that was given",
    }[settings.get("references", "given")]
    lost = card.get("problems", {}).get("counts", {}).get("no_outline", 0)
    whole = f" ({lost} pictures have no outline: the whole of them)" if lost else ""
    return "; ".join(
        (
            "recall@k among unique products (product), reference images (image) or mean vectors "
            "(centroid); a pick whose product has no reference counts as wrong",
            "N=1: PickRGB; N=3: with two post-pick views, joined by the bundle (n3) or each "
            "reference's nearest view (n3max, devkit)",
            f"crop {settings.get('identification_crop', 'image')}{whole}",
            f"{len(gallery.products)} products, {what}",
            learned_from(card, "identification"),
        )
    )
