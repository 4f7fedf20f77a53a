"""The nodes' settings for an evaluation: from the same file, under the same names."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robollm.core.config import from_mapping, options, unknown_key
from robollm.core.errors import ConfigError
from robollm.core.settings import (
    DefectConfig,
    IdentificationConfig,
    NodeConfig,
    PickConfig,
    RuntimeConfig,
    SegmentationConfig,
)
from robollm.eval.records import Json
from robollm.gallery.store import read_card
from robollm.runtime.default_bundle import find_bundle

C = TypeVar("C")
_KINDS = (
    RuntimeConfig, NodeConfig, PickConfig, IdentificationConfig, DefectConfig, SegmentationConfig,
)  # fmt: skip
_STANDARD = ("use_sim_time", "start_type_description_service")
_STANDARD_GROUPS = ("qos_overrides.",)
_PLACES = ("bundle", "manifest", "gallery", "engine_cache")
_NO_MATTER = ("threads", "autostart", "no_image_warn_s", "diagnostics_period_s", "overlay",
              "watch", "watch_period_s", "image_qos")  # fmt: skip


@dataclass(frozen=True, slots=True)
class StationSettings:
    """All settings of the three nodes."""

    runtime: RuntimeConfig
    nodes: NodeConfig
    pick: PickConfig
    identification: IdentificationConfig
    defects: DefectConfig
    segmentation: SegmentationConfig

    @property
    def names_products(self) -> bool:
        """Whether there is anything to name a product from."""
        return bool(self.identification.manifest or self.identification.gallery)

    def card(self) -> Json:
        """What decides over an answer and is not the default, for `run.json`.

        A place is no matter; what is there is: the manifest's digest, the gallery's last change.

        Raises:
            GalleryError: if there is no gallery, or something else.
        """
        out = {k: v for k, v in self.given().items() if k not in (*_PLACES, *_NO_MATTER)}
        manifest, gallery = self.identification.manifest, self.identification.gallery
        if manifest:
            with suppress(OSError):  # who reads it says so
                out["manifest"] = hashlib.sha256(Path(manifest).read_bytes()).hexdigest()
        if manifest or gallery:
            folder = Path(gallery or Path(manifest).parent / "gallery")
            made = read_card(folder)
            out["gallery"] = f"of {made.created}, generation {made.generation}"
        return out

    def of_a_worker(self) -> StationSettings:
        """The same for one of several processes, see the function of this name."""
        named = self.identification
        named = dataclasses.replace(
            named,
            gallery=_whole("gallery", named.gallery),
            manifest=_whole("manifest", named.manifest),
        )
        return dataclasses.replace(self, runtime=of_a_worker(self.runtime), identification=named)

    def given(self) -> Json:
        """All that is not the default, as the nodes' parameters."""
        out: Json = {}
        for part in dataclasses.fields(self):
            config = getattr(self, part.name)
            for opt in options(type(config)):
                value = getattr(config, opt.name)
                if value != opt.default:
                    out[opt.name] = list(value) if isinstance(value, tuple) else value
        return out


def station_settings(
    params_file: Path | None, parameters: Sequence[str], given: Mapping[str, Any]
) -> StationSettings:
    """Settings from a parameter file, then `NAME:=VALUE`, then options of a command.

    Args:
        params_file: as the nodes take it, with the one section `/**`; None: no file.
        parameters: as after `-p`.
        given: name -> value, the last word.

    Raises:
        ConfigError: for an unreadable file, an unknown name or a refused value.
    """
    values = {} if params_file is None else _read(params_file)
    for text in parameters:
        name, sep, value = text.partition(":=")
        if not sep or not name:
            raise ConfigError(f"parameter {text!r}, want NAME:=VALUE", fix="-p min_views:=2")
        values[name] = _yaml(value, f"parameter {name}")
    values.update(given)
    for name in _PLACES:  # processes that work elsewhere have another current folder
        if isinstance(values.get(name), str) and values[name]:
            values[name] = _whole(name, values[name])
    known = {o.name for kind in _KINDS for o in options(kind)}
    for name in list(values):
        if name in _STANDARD or name.startswith(_STANDARD_GROUPS):
            del values[name]
        elif name not in known:
            raise unknown_key(name, sorted(known), where="the nodes")

    def part(kind: type[C]) -> C:
        mine = {o.name for o in options(kind)}
        return from_mapping(kind, {k: v for k, v in values.items() if k in mine})

    return StationSettings(
        part(RuntimeConfig), part(NodeConfig), part(PickConfig), part(IdentificationConfig),
        part(DefectConfig), part(SegmentationConfig),
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"parameter file {path} can't be read: {e}", fix="check it") from e
    card = _yaml(text, f"parameter file {path}")
    section = card.get("/**") if isinstance(card, dict) else None
    inner = section.get("ros__parameters") if isinstance(section, dict) else None
    if not isinstance(inner, dict) or set(card) != {"/**"}:
        seen = ", ".join(map(str, card)) if isinstance(card, dict) else type(card).__name__
        raise ConfigError(
            f"parameter file {path} has {seen or 'nothing'}, want the one section /** with "
            "ros__parameters",
            fix="put what all nodes share under /**, as config/armbench.yaml does",
        )
    return dict(inner)


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigError(f"{what} is not YAML: {e}", fix="correct it") from e


def of_a_worker(config: RuntimeConfig) -> RuntimeConfig:
    """A bundle's settings for one of several processes: one thread each, and whole paths.

    A process of Ray's may be at home in another folder.

    Args:
        config: of the process that starts it.
    """
    return dataclasses.replace(config, threads=1, bundle=_whole("bundle", config.bundle))


def _whole(name: str, value: str) -> str:
    """The whole path of one of `_PLACES`; nothing stays nothing (the default of that setting)."""
    if not value:
        return ""
    return str((find_bundle(value) if name == "bundle" else Path(value)).absolute())
