"""The rows about the product gallery."""

from __future__ import annotations

from collections.abc import Callable

from results_row import Card, Row, busy, case, cpu, seconds


def gallery(name: str) -> Callable[[Card], str]:
    """Milliseconds of a query in a container and in the whole gallery, and the ratios."""

    def text(card: Card) -> str:
        found = case(card, name, "tasks")
        whole, engines = found["tasks"]["whole"], found["engines"]
        base = card["reference"]

        def one(engine: str) -> str:
            row, recall = whole[engine], engines[engine]["recall@1_exact"]
            beside = "" if recall == 1 else f", recall {recall:.3f}"
            return f"{engine} {row['p50_ms']:g} ms (**x {row['ratio']:g}**{beside})"

        inside = found["tasks"]["container of 50"]["ours, exact"]["p50_ms"]
        rest = "; ".join(one(n) for n in whole if n != base and "centroid" not in n)
        return f"in a container {inside:g} ms; whole: {base} {whole[base]['p50_ms']:g} ms; {rest}"

    return text


def gallery_conditions(name: str) -> Callable[[Card], str]:
    """What was searched, and where."""

    def text(card: Card) -> str:
        found = case(card, name, "tasks")
        return (
            f"made-up vectors of 768 numbers, k = 1, containers of 50; recall@1 of exact search "
            f"against the truth {found['engines'][card['reference']]['recall@1_truth']:.2f}; "
            f"{cpu(card, name)}{busy(found)}"
        )

    return text


def gallery_changes(card: Card) -> str:
    """Commits, and how long a reader takes to follow."""
    found = case(card, "190k", "changes")["changes"]
    one, many = found["add 1"], found["add 1000"]
    return (
        f"1 product {one['p50_ms']:g} ms, 1,000 products {seconds(many['p50_ms'])}; a reader "
        f"follows in {found['refresh 1']['p50_ms']:g} and {found['refresh 1000']['p50_ms']:g} ms; "
        f"an index file written anew: {seconds(found['faiss flat, add 1']['p50_ms'])}"
    )


def gallery_opening(card: Card) -> str:
    """Seconds to open, cold and warm, and memory."""
    parts = []
    for name in opened(card):
        ours = case(card, name, "engines")["engines"]["ours, exact"]
        own, files = ours["rss_mib_own"], ours["rss_mib"] - ours["rss_mib_own"]
        parts.append(
            f"{name}: {ours['open_cold_s']:g} and {ours['open_warm_s']:g} s, {own:.0f} MiB and "
            f"{files:.0f} of mapped files"
        )
    return "; ".join(parts)


def opened(card: Card) -> list[str]:
    """The cases that the row on opening shows."""
    return [n for n in ("190k", "1M") if n in card["cases"]] or ["190k"]


def gallery_live(card: Card) -> str:
    """Latencies of a node with and without changes, and what went wrong."""

    def pair(what: str) -> str:
        quiet, changing = card["quiet"][what], card["changing"][what]
        return (
            f"{changing['p50']:.1f} and {changing['p99']:.0f} ms "
            f"(nobody commits: {quiet['p50']:.1f} and {quiet['p99']:.0f})"
        )

    wrong = card["errors"], card["dropped"], card["changing"]["unanswered"]
    return (
        "{} errors, {} dropped, {} unanswered; ".format(*wrong)
        + f"ten searches, p50 and p99: {pair('search_ms')}; from instances to names: "
        f"{pair('answer_ms')}"
    )


def gallery_live_conditions(card: Card) -> str:
    """The load and the station."""
    return (
        f"totes of 10 instances at {card['hz']:g} Hz, containers of {card['in_container']} of "
        f"{card['products']:,} products, {card['changes']:,} commits; {card['bundle']}; "
        f"{cpu(card)}{busy(card)}"
    )


def gallery_crash(card: Card) -> str:
    """Kills and what was lost."""
    return (
        f"{card['kills']:,} kills, {card['recoveries']:,} recoveries, {card['losses']} of "
        f"{card['acknowledged']:,} acknowledged commits lost"
    )


ROWS = (
    Row(
        "naming a vector among 190,000 products",
        gallery("190k"),
        gallery_conditions("190k"),
        "python bench/gallery.py",
        "gallery",
        case="190k",
    ),
    Row(
        "the same among 1,000,000",
        gallery("1M"),
        gallery_conditions("1M"),
        "python bench/gallery.py",
        "gallery",
        case="1M",
    ),
    Row(
        "opening a gallery, cold and warm: every byte verified; memory",
        gallery_opening,
        lambda c: f"products with one reference each; {cpu(c, *opened(c))}",
        "python bench/gallery.py",
        "gallery",
    ),
    Row(
        "a durable commit to a gallery of 190,000 that another process searches",
        gallery_changes,
        lambda c: f"medians; {cpu(c, '190k')}{busy(c['cases']['190k'])}",
        "python bench/gallery.py",
        "gallery",
    ),
    Row(
        "a node that names 50 instances a second while another process changes its gallery",
        gallery_live,
        gallery_live_conditions,
        "python bench/gallery_live.py",
        "gallery_live",
    ),
    Row(
        "a writer killed by SIGKILL at random moments: building, changing, compacting",
        gallery_crash,
        "the process, not the machine, dies; after each kill every commit is read and compared",
        "python bench/gallery_crash.py",
        "gallery_crash",
    ),
)
