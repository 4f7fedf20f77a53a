"""Which pictures the backbone sees: what TensorRT must know before it builds an engine.

The same shapes serve both ways to an engine: ONNX Runtime's TensorRT provider, and `trtexec`
(`robollm tensorrt`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from robollm.core.errors import ConfigError
from robollm.runtime.bundle import Bundle

Profile = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> smallest, usual and largest shape: one of TensorRT's optimisation profiles."""


def backbone_profiles(bundle: Bundle, *, batch_max: int = 16, totes: int = 1) -> dict[str, Profile]:
    """What the backbone is used with: `tote` images and `crops`, by that name.

    One engine can hold both profiles, and its weights once.

    Args:
        bundle: gives both canvases, and whether rows choose adapters.
        batch_max: crops in a batch, at most.
        totes: tote images in a batch, at most.

    Raises:
        ConfigError: batch_max or totes is below 1.
    """
    for name, value in (("batch_max", batch_max), ("totes", totes)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, want at least 1")

    def up_to(count: int, hw: tuple[int, int]) -> Profile:
        profile: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
            "image": ((1, 3, *hw), (count, 3, *hw), (count, 3, *hw))
        }
        if bundle.adapters:
            profile["task"] = ((1,), (count,), (count,))
        return profile

    return {"tote": up_to(totes, bundle.tote.hw), "crops": up_to(batch_max, bundle.crop.hw)}


def covering(profiles: Iterable[Profile]) -> Profile:
    """One profile that has room for all of them; the usual shapes are those of the first.

    ONNX Runtime's TensorRT provider can build an engine with several profiles, but runs it with
    the first only (https://github.com/microsoft/onnxruntime/pull/31624): it must be given one.

    Args:
        profiles: at least one, with the same inputs.
    """
    several = list(profiles)

    def each(
        choose: Callable[[Sequence[int]], int], shapes: list[tuple[int, ...]]
    ) -> tuple[int, ...]:
        return tuple(choose(sizes) for sizes in zip(*shapes, strict=True))

    return {
        name: (
            each(min, [p[name][0] for p in several]),
            usual,
            each(max, [p[name][2] for p in several]),
        )
        for name, (_, usual, _) in several[0].items()
    }
