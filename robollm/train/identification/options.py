"""What the settings of identification's data may be."""

from __future__ import annotations

from collections.abc import Sequence

from robollm.core.content import WAYS
from robollm.core.errors import ConfigError
from robollm.data.armbench_files import VIEWS

SPLITS = ("train", "val", "test")
CROPS = ("image", "segment")
GALLERIES = ("manifests", "all")


def check(
    split: str,
    crop: str,
    gallery: str,
    views: Sequence[str],
    view_dropout: float,
    tote_samples: int,
    reference_crop: str,
    loose: float,
) -> None:
    """Check settings of `PickData`; there they are explained.

    Raises:
        ConfigError: for the first one that is out of range.
    """
    _one_of("split", split, SPLITS)
    _one_of("crop", crop, CROPS)
    _one_of("gallery", gallery, GALLERIES)
    _one_of("reference_crop", reference_crop, WAYS)
    if not 0 <= loose <= 10 or (loose and crop != "segment"):
        raise ConfigError(
            f"loose is {loose} with crop {crop!r}; want 0 to 10, and 0 without crop 'segment'",
            fix="0 cuts as evaluation does",
        )
    for one in views:
        _one_of("view", one, VIEWS)
    if not views or len(set(views)) != len(views) or not 0 <= view_dropout < 1:
        raise ConfigError(
            f"views {tuple(views)}, view_dropout {view_dropout}; want different views, at "
            "least one, and 0 <= view_dropout < 1",
            fix="correct the dataset's settings",
        )
    if tote_samples < 0 or (tote_samples and (split != "train" or VIEWS[0] not in views)):
        raise ConfigError(
            f"tote_samples is {tote_samples} in split {split} with views {tuple(views)}; want 0 "
            f"or more, in split train, with {VIEWS[0]} among the views",
            fix="set tote_samples=0",
        )


def _one_of(name: str, value: str, choice: Sequence[str]) -> None:
    if value not in choice:
        raise ConfigError(
            f"{name} is {value!r}, want one of {', '.join(choice)}", fix=f"correct {name}"
        )
