"""A comparison as one HTML file: no script, no network, dark and light by the reader's system."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robollm.core.errors import EvalError
from robollm.eval.compare import PASSED, UNDECIDED, Comparison
from robollm.eval.gate import REGRESSION, Change

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Comparison of two runs</title>
<style>
:root { color-scheme: light dark; --line: #8886; --bad: #c22; --good: #287d3c }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8080; --good: #7fd491 } }
body { font: 16px/1.45 system-ui, sans-serif; margin: 1rem auto; max-width: 72rem; padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line) }
td.n, td.w { white-space: nowrap } td.n { text-align: right } h1 { font-size: 1.4rem }
.bad { color: var(--bad) }
.good { color: var(--good) } .said { overflow-wrap: anywhere } .dim { opacity: .75 }
</style></head><body>
<h1 class="{{ 'bad' if c.exit_code != passed else 'good' }}">{{ verdict(c) }}</h1>
<p>A: {{ c.a.run }} ({{ about(c.a) }})<br>B: {{ c.b.run }} ({{ about(c.b) }})</p>
<p class="dim">Paired bootstrap, {{ c.question.draws }} draws, seed {{ c.question.seed }}; a loss up
to {{ c.question.margin }} is accepted; alpha {{ c.question.alpha }}, {{ c.question.correct }}
correction over the figures that decide. Limits are of 95 %, each figure's own.</p>
{% for run in (c.a, c.b) %}{% for why in run.partial %}
<p class="bad">{{ run.run }}: {{ why }}</p>{% endfor %}{% endfor %}
{% for line in c.missing %}<p class="bad">Missing: {{ line }}</p>{% endfor %}
{% for line in c.unlike %}<p>{{ line }}</p>{% endfor %}
{% for line in c.left_out %}<p>{{ line }}</p>{% endfor %}
{% for title, some in (('Figures that decide', True), ('Other figures, not corrected', False)) %}
<h2>{{ title }}</h2><div class="wide"><table><tr><th></th><th>section</th><th>figure</th>
<th>A</th><th>B</th><th>difference</th><th>p</th><th>a loss shows from</th></tr>
{% for x in c.changes if x.decides == some %}<tr>
<td class="w {{ 'bad' if x.verdict == 'regression' else 'good' if x.verdict == 'gain' }}">
{{ x.verdict }}</td><td>{{ x.section }}</td><td>{{ x.figure }}</td>
<td class="n">{{ number(x.difference.a) }}</td><td class="n">{{ number(x.difference.b) }}</td>
<td class="n">{{ span(x) }}</td><td class="n">{{ number(x.p) }}</td>
<td class="n">{{ least(x) }}</td></tr>{% endfor %}</table></div>
{% endfor %}
<h2>Samples</h2><div class="wide"><table>
{% for name, row in c.samples.items() %}<tr><th>{{ name }}</th>{% for what, n in row.items() %}
<td>{{ n }} {{ what | replace('_', ' ') }}</td>{% endfor %}</tr>{% endfor %}</table></div>
{% for title, some in (('Lost: right in A, wrong in B', c.lost),
                       ('Won: wrong in A, right in B', c.won)) %}
<h2>{{ title }}</h2>{% if not some %}<p>None.</p>{% else %}<div class="wide"><table>
<tr><th>stream</th><th>sample</th><th>truth</th><th>A</th><th>B</th><th>file</th></tr>
{% for s in some %}<tr><td>{{ s.stream }}</td><td>{{ s.key }}</td><td>{{ s.truth }}</td>
<td class="said">{{ s.a }}</td><td class="said">{{ s.b }}</td><td class="said">{{ s.file }}</td>
</tr>{% endfor %}</table></div>{% endif %}{% endfor %}
</body></html>
"""


def write_page(comparison: Comparison, out: Path) -> Path:
    """Write the page.

    Raises:
        EvalError: if Jinja2 is not installed, or the file can't be written.
    """
    try:
        from jinja2 import Environment
    except ImportError as e:
        raise EvalError("a page needs Jinja2", fix='pip install "robollm[eval]"') from e
    page = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    helpers: dict[str, Callable[..., str]] = {
        "verdict": verdict, "about": about, "number": number, "span": span,
        "least": least,
    }  # fmt: skip
    text = page.render(c=comparison, passed=PASSED, **helpers)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as e:
        raise EvalError(f"{out} can't be written: {e.strerror}", fix="give another file") from e
    return out


def verdict(comparison: Comparison) -> str:
    """The whole in one line."""
    worse = comparison.regressions
    deciding = sum(c.decides for c in comparison.changes)
    if comparison.exit_code == UNDECIDED:
        return (
            f"Not decided: {len(comparison.missing)} gaps; repair them, or --allow-missing decides "
            "by what both runs have"
        )
    if not worse:
        gaps = f", on what both have: {len(comparison.missing)} gaps" if comparison.missing else ""
        blind = max((c for c in comparison.changes if c.decides), key=_shows)
        return (
            f"No regression found: none of {deciding} figures got worse beyond chance and "
            f"margin{gaps}; {_unseen(blind)}"
        )
    names = ", ".join(f"{c.section} {c.figure}" for c in worse[:3])
    return f"{REGRESSION.capitalize()}: {len(worse)} of {deciding} figures, {names}" + (
        ", ..." if len(worse) > 3 else ""
    )


def _shows(change: Change) -> float:
    return -1.0 if math.isnan(change.shows) else change.shows


def _unseen(change: Change) -> str:
    """What a comparison that found nothing could not have found."""
    name = f"{change.section} {change.figure}"
    if math.isinf(change.shows):
        return f"of {name}, no loss would show on so few samples"
    return f"a loss below {least(change)} would not show (of {name}; each figure has its own)"


def least(change: Change) -> str:
    """From where a loss shows; see `Change.shows`."""
    if math.isinf(change.shows):
        return "nowhere"
    return number(change.shows)


def about(run: Mapping[str, Any]) -> str:
    """Who answered, and on what."""
    who, data = run["predictor"], run["data"]
    words = [who.get("name"), who.get("bundle_name"), (who.get("sha256") or "")[:12]]
    words += [who.get("precision"), data.get("name"), data.get("split")]
    return ", ".join(str(w) for w in words if w)


def number(value: float) -> str:
    """Four digits, or a dash for nan."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def span(change: Change) -> str:
    """A difference with its limits."""
    d = change.difference
    if math.isnan(d.delta):
        return "-"
    limits = "too few" if math.isnan(d.low) else f"{d.low:+.4f} to {d.high:+.4f}"
    return f"{d.delta:+.4f} ({limits})"
