"""How a gallery is searched: what was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from robollm.core.errors import ConfigError

PRODUCT_SCORES = ("max", "centroid")
WHOLE = ("auto", "exact", "approximate")


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How a gallery is searched. A container is always searched exactly.

    Attributes:
        product_score: what a product's references count for: "max", the most similar one, or
            "centroid", their normalised mean.
        whole: how the whole gallery is searched. "exact"; "approximate", by the index that
            `robollm gallery tune` made; "auto", whichever of the two it chose, and exactly if
            there is none.

    Raises:
        ConfigError: if a word is none of these.
    """

    product_score: str = "max"
    whole: str = "auto"

    def __post_init__(self) -> None:
        for name, value, words in (
            ("product_score", self.product_score, PRODUCT_SCORES),
            ("whole", self.whole, WHOLE),
        ):
            if value not in words:
                raise ConfigError(
                    f"{name} is {value!r}, want one of {', '.join(words)}",
                    fix=f"set {name} to {words[0]}",
                )
