"""Matplotlib's SVG made fit for a page: the page's font and colours, no link to anywhere."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = {
    "text": "#0a0001",
    "muted": "#0a0002",
    "grid": "#0a0003",
    "paper": "#0a0004",
    "good": "#0a0005",
    "bad": "#0a0006",
    **{f"line{n}": f"#0a001{n}" for n in range(6)},
}
"""Names of the page's colours -> stand-ins that matplotlib draws with. They mean nothing else."""

_NAME = {value: name for name, value in INK.items()}
_COLOUR = re.compile("|".join(_NAME))
_PREAMBLE = re.compile(r"^.*?(?=<svg)", re.S)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.S)
_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.S)
"""Rules for all elements, which within a page would be the page's."""
_NAMESPACE = re.compile(r"""\sxmlns(?::\w+)?="[^"]*"|\sversion="1\.1\"""")
_SIZE = re.compile(r'(<svg[^>]*?)\swidth="[^"]*"|(<svg[^>]*?)\sheight="[^"]*"')
_FONT = re.compile(r"""font(?:-family)?: [^;"]*(?=[;"])""")
_SIZE_OF_FONT = re.compile(r"([\d.]+)px")


def _font(found: re.Match[str]) -> str:
    """Keep the size and, of a shorthand, nothing else: the face is the page's."""
    size = _SIZE_OF_FONT.search(found[0])
    return f"font-size: {size[1]}px" if size else "font-family: inherit"


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Draw a figure as an SVG element for within HTML.

    Text stays text. Colours of `INK` become `var(--NAME)`, so that the page's styles decide what
    they are. Ids are unique on a page if `name` is. The same figure gives the same bytes.

    Args:
        figure: matplotlib's; it has no other owner, so it needs no closing.
        name: unique on the page, letters, digits and hyphens.
        label: what a reader without eyes is told.
    """
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = _METADATA.sub("", _PREAMBLE.sub("", out.getvalue(), count=1))
    text = _NAMESPACE.sub("", _STYLE.sub("", text, count=1))
    for _ in range(2):
        text = _SIZE.sub(lambda m: m[1] or m[2], text, count=1)
    text = text.replace("xlink:href", "href")
    text = _FONT.sub(_font, text)
    text = _COLOUR.sub(lambda m: f"var(--{_NAME[m[0]]})", text)
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    said = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{said}"', 1).strip()
