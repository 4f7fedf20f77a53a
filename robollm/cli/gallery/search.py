"""`robollm gallery search`: the product on a picture, with all that the answer stands on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robollm.cli.gallery.show import gallery_argument, json_option, named, say, show, table
from robollm.cli.options import read_box, take, with_settings
from robollm.core.settings import IdentificationConfig, RuntimeConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from robollm.gallery.snapshot import StoredGallery
    from robollm.runtime.lookup import Lookup
    from robollm.runtime.pixels import Region

_OWN = ("gallery", "watch", "watch_period_s", "frame_history")  # of no use here
_SUFFIXES = (".jpg", ".jpeg", ".png")


@click.command()
@gallery_argument
@click.argument("queries", metavar="IMAGE...", nargs=-1, required=True,
                type=click.Path(path_type=Path))  # fmt: skip
@click.option("--box", "boxes", multiple=True, metavar="X,Y,W,H",
              help="Where the object is, px; the n-th is of the n-th picture. Without it: the"
              " whole picture.")  # fmt: skip
@click.option("--container", help="Only products of this container's manifest.")
@click.option("--images", type=click.Path(path_type=Path),
              help="Folder of the reference pictures, for --out; by default the one that the"
              " gallery was built from.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write a picture of query and matches."
)
@json_option
@with_settings(RuntimeConfig, IdentificationConfig, without=_OWN)
def command(
    gallery: Path,
    queries: tuple[Path, ...],
    boxes: tuple[str, ...],
    container: str | None,
    images: Path | None,
    out: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Find the product on IMAGE, or on several pictures of one object, as the robot does.

    \b
      robollm gallery search G query.jpg --bundle B
      robollm gallery search G tote.jpg --box 310,120,200,180 --container tote-17 \
          --bundle B --out match.png
      robollm gallery search G PickRGB.jpg OnArmLowRGB.jpg --bundle B --json

    It answers with the decision, its reason, and the products in question: cosine, probability, and
    the reference picture that is most like the query. Without --container all products of the
    gallery are candidates. Thresholds are those of the gallery's calibration, else the bundle's;
    both are meant for a container, so a product found among all is less sure than it looks.
    Pictures that a bundle joins are told apart by name (image, on_arm_low, ..., or ARMBench's
    PickRGB, OnArmLowRGB, ...), else by their order.

    The gallery is never changed, and a wrong bundle is refused: its cosines would mean nothing.
    """
    from robollm.core.errors import ConfigError
    from robollm.gallery.plan import SearchPlan
    from robollm.gallery.store import open_gallery
    from robollm.runtime.lookup import look_up
    from robollm.runtime.perceiver import Perceiver

    if out is not None and out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--out is {str(out)!r}", fix="give a name that ends with .png or .jpg")
    config = take(IdentificationConfig, settings)
    regions = _regions(queries, boxes, settings["max_image_side"])
    perceiver = Perceiver(take(RuntimeConfig, settings))
    bundle = perceiver.bundle
    opened = open_gallery(
        gallery,
        embedding_sha256=bundle.embedding_sha256,
        bundle=bundle.title,
        search=SearchPlan(product_score=config.product_score, whole=config.whole_search),
    )
    allow = _allowed(opened, config.manifest, container)
    policy, thresholds = perceiver.policy(config, opened)
    names = _names(queries, perceiver.fused_views, config.view_fusion)
    views = dict(zip(names, regions, strict=True))
    found = look_up(perceiver, opened, views, allow=allow, policy=policy, thresholds=thresholds)
    if out is not None:
        _draw(out, views, found, opened, images, trained=bundle.trained, container=container)
    if not bundle.trained:
        click.echo("UNTRAINED: random weights, results mean nothing", err=True)
    if as_json:
        say(_card(found, opened, queries, container))
    else:
        _print(found, opened, container)
    opened.close()


def _regions(images: Sequence[Path], boxes: Sequence[str], max_side: int) -> list[Region]:
    """The objects on the pictures.

    Raises:
        ConfigError: for a box that can't be understood, or one too many.
        FrameError: for a picture that can't be read, or a box outside of it.
    """
    from robollm.core.errors import ConfigError
    from robollm.runtime.pixels import Region
    from robollm.runtime.predict_files import read_frame

    if len(boxes) > len(images):
        raise ConfigError(
            f"{len(boxes)} times --box for {len(images)} pictures",
            fix="give at most one for each picture, in their order",
        )
    regions = []
    for i, image in enumerate(images):
        frame = read_frame(image, number=i + 1, max_side=max_side, stream=f"query {i + 1}")
        region = Region(frame, read_box(boxes[i]) if i < len(boxes) else None)
        _ = region.window  # a box outside is an error here, before models are loaded
        regions.append(region)
    return regions


def _names(images: Sequence[Path], fused_views: Sequence[str], view_fusion: str) -> list[str]:
    from robollm.runtime.lookup import name_views

    return name_views(images, fused_views if view_fusion == "fused" else ())


def _allowed(
    opened: StoredGallery, manifest: str, container: str | None
) -> AbstractSet[str] | None:
    """The products of the container; None: all.

    Raises:
        ConfigError: for a manifest file without --container.
        ManifestError: if the file can't be read, or there is nothing to compare with.
    """
    from robollm.core.errors import ConfigError, ManifestError
    from robollm.gallery.catalogue import Catalogue
    from robollm.gallery.manifest import load_manifests

    if container is None:
        if manifest:
            raise ConfigError(
                "--manifest without --container", fix="say which of its containers: --container ID"
            )
        return None
    manifests = load_manifests(Path(manifest)) if manifest else opened.manifests
    allow, why = Catalogue(opened, manifests).allowed(container)
    if allow is None:
        have = named(sorted(manifests.containers)) or "none"
        raise ManifestError(why, fix=f"choose another container; there are: {have}")
    bare = sorted(manifests.containers[container] - allow)
    if bare:
        click.echo(
            f"{len(bare):,} products of {container} have no reference picture: {named(bare)}",
            err=True,
        )
    return allow


def _draw(
    out: Path,
    views: dict[str, Region],
    found: Lookup,
    opened: StoredGallery,
    references: Path | None,
    *,
    trained: bool,
    container: str | None,
) -> None:
    import cv2

    from robollm.core.errors import FrameError
    from robollm.runtime.match_picture import Candidate, View, draw_matches
    from robollm.runtime.overlay import to_bgr

    root = references or _built_from(opened)
    candidates = []
    for p in found.found:
        picture, problem = _reference(root, p.source)
        candidates.append(
            Candidate(p.product_id, p.title, p.similarity, p.probability, p.source, picture,
                      problem, p.chosen, p.outside)
        )  # fmt: skip
    image = draw_matches(
        [View(name, to_bgr(region.frame), region.box) for name, region in views.items()],
        candidates,
        decision=found.answer.decision,
        headline=found.headline,
        reason=found.reason,
        footer=" | ".join(_where(found, opened, container)),
        accept=found.policy.accept,
        trained=trained,
    )
    ok, data = cv2.imencode(out.suffix.lower(), image)
    try:
        assert ok, "an image of bytes can be encoded"
        out.write_bytes(data.tobytes())
    except OSError as e:
        raise FrameError(
            f"can't write {out}: {e.strerror}", fix="give a name in a folder that exists"
        ) from e
    missing = [c for c in candidates if c.picture is None]
    if missing:
        click.echo(
            f"{len(missing)} reference pictures could not be shown: "
            + "; ".join(f"{c.source}: {c.problem}" for c in missing),
            err=True,
        )


def _built_from(opened: StoredGallery) -> Path | None:
    record = opened.record("build", "bad_images")
    return Path(record["images"]) if record and record.get("images") else None


def _reference(root: Path | None, source: str) -> tuple[Any, str]:
    """A reference picture, (H, W, 3) uint8 BGR, or None and why."""
    from robollm.core.errors import FrameError
    from robollm.data.images import decode_image

    if root is None:
        return None, "say where it is: --images DIR"
    try:
        rgb = decode_image((root / source).read_bytes(), Path(source), upright=True)
    except OSError as e:
        return None, f"{e.strerror}, under {root}"
    except FrameError as e:
        return None, e.what.removeprefix(source).strip()
    return rgb[..., ::-1].copy(), ""


def _where(found: Lookup, opened: StoredGallery, container: str | None) -> list[str]:
    """What the answer stands on."""
    among = f"compared with {found.compared:,} products"
    if container is not None:
        among += f" of container {container}"
    if found.elsewhere:
        among += ", then with the rest of the gallery"
    out = [among, f"gallery generation {opened.generation:,}, bundle {opened.made_with.bundle}"]
    out.append(found.thresholds)
    return [*out, opened.plan] if container is None or found.elsewhere else out


def _card(
    found: Lookup, opened: StoredGallery, images: Sequence[Path], container: str | None
) -> dict[str, Any]:
    return {
        "images": [str(i) for i in images],
        "container": container,
        "decision": found.answer.decision,
        "reason": found.answer.reason,
        "ranked": [{"class_id": c, "score": round(p, 6)} for c, p in found.answer.ranked],
        "products": [
            {
                "product": p.product_id,
                "title": p.title,
                "cosine": round(p.similarity, 6),
                "probability": round(p.probability, 6),
                "reference": p.source,
                "reference_cosine": round(p.source_similarity, 6),
                "in_manifest": not p.outside,
            }
            for p in found.found
        ],
        "compared_with": found.compared,
        "searched_elsewhere": found.elsewhere,
        "views": list(found.answer.views),
        "thresholds": found.thresholds,
        "generation": opened.generation,
        "bundle": opened.made_with.bundle,
        "plan": opened.plan,
    }


def _print(found: Lookup, opened: StoredGallery, container: str | None) -> None:
    rows = table("rank", "product", "title", "cosine", "probability", "reference",
                 right=("rank", "cosine", "probability"))  # fmt: skip
    for rank, p in enumerate(found.found, 1):
        name = p.product_id + (" (not in the manifest)" if p.outside else "")
        rows.add_row(str(rank), name, p.title, f"{p.similarity:.4f}", f"{p.probability:.4f}",
                     p.source)  # fmt: skip
    show(rows)
    click.echo(f"{found.headline}: {found.reason}")
    for line in _where(found, opened, container):
        click.echo(f"  {line}")
