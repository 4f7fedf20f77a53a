"""ARMBench's picks into a run folder, answered as the station would: the folders' own replay."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robollm.data.armbench_files import write_json
from robollm.data.armbench_identification import find_root
from robollm.data.problems import Problems
from robollm.eval.contents import check, of_files
from robollm.eval.folder_picks import (
    VIEWS,
    FolderPick,
    folder_picks,
    kind_of_data,
    manifest_card,
    messages,
    refuse_if_none,
)
from robollm.eval.gather import Gatherer, Heard, PickJob
from robollm.eval.predictors import BundlePredictor
from robollm.eval.progress import SILENT, Progress
from robollm.eval.records import PICKS, Json
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import Progressed, predict
from robollm.eval.settings import StationSettings
from robollm.eval.station import StationDesk
from robollm.eval.tasks import references
from robollm.eval.truth import StationTruth, keep_pick

MANIFEST, GALLERY = "manifest.json", "gallery"


@dataclass(frozen=True, slots=True)
class Folders:
    """Which picks of which data.

    Attributes:
        data: see `folder_picks`.
        split: the same.
        views: the same.
        limit: the same.
    """

    data: Path
    split: str = "test"
    views: tuple[str, ...] = VIEWS
    limit: int = 0

    def picks(self, problems: Problems) -> Iterator[FolderPick]:
        """The picks, one by one."""
        return folder_picks(
            self.data, problems, split=self.split, views=self.views, limit=self.limit
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A first look at the picks.

    Attributes:
        count: how many there are.
        titles: Product-ID -> title, of all containers.
        containers: Pick-ID -> its container's products.
        digest: of ids, manifests and truth.
        prints: Pick-ID -> fingerprint of its pictures.
        problems: what was left out.
    """

    count: int
    titles: dict[str, str]
    containers: dict[str, tuple[str, ...]]
    digest: str
    prints: dict[str, str]
    problems: Problems


def list_picks(folders: Folders) -> Listed:
    """Read what the picks are, and of their pictures a fingerprint.

    Raises:
        ConfigError: if there is no such data, or no pick that can be used.
        EvalError: if a view or the split is not known.
    """
    problems, digest = Problems(), hashlib.sha256()
    titles: dict[str, str] = {}
    containers: dict[str, tuple[str, ...]] = {}
    prints: dict[str, str] = {}
    for pick in folders.picks(problems):
        titles.update({p: pick.titles.get(p, "") for p in pick.manifest})
        containers[pick.id] = pick.manifest
        prints[pick.id] = of_files(shot.file for shot in (pick.tote, *pick.views))
        digest.update(repr((pick.id, pick.manifest, sorted(pick.truth.items()))).encode())
    refuse_if_none(len(containers), folders.data, folders.split, problems)
    return Listed(len(containers), titles, containers, digest.hexdigest(), prints, problems)


def data_card(folders: Folders, listed: Listed) -> Json:
    """The part `data` of the card."""
    root = find_root(folders.data)
    return {
        "root": str(root.parent),
        "name": root.parent.name,
        "kind": kind_of_data(folders.data),
        "split": folders.split,
        "subsets": [],
        "samples": {PICKS: listed.count},
        "digest": listed.digest,
    }


def prepare(
    run: RunFolder,
    folders: Folders,
    listed: Listed,
    settings: StationSettings,
    predictor: BundlePredictor,
    progress: Progress = SILENT,
) -> StationSettings:
    """Write the picks' manifest into the run, and a gallery if none is given.

    Args:
        run: `manifest.json` and `gallery` go into its folder.
        folders: where the reference images are.
        listed: the first look.
        settings: of the nodes.
        predictor: embeds the references.
        progress: is told of every reference.

    Returns:
        The settings with both set.

    Raises:
        ConfigError: if there are no reference images.
        GalleryError: if the gallery can't be written.
        EvalError: if answered picks have other pictures now, see `contents.check`.
    """
    check(run, PICKS, listed.prints)
    run.problems.merge(listed.problems)
    write_json(run.path / MANIFEST, manifest_card(listed.titles, listed.containers))
    gallery = settings.identification.gallery
    if not gallery:
        gallery = str(run.path / GALLERY)
        root = find_root(folders.data)
        found = references.pictures(root, set(listed.titles), run.problems)
        progress.begin("references", len(found))
        try:
            references.build(
                Path(gallery), predictor, found, run.problems, progress=progress.advance
            )
        finally:
            progress.end()
    named = dataclasses.replace(
        settings.identification, manifest=str(run.path / MANIFEST), gallery=gallery
    )
    return dataclasses.replace(settings, identification=named)


def answer(
    run: RunFolder,
    folders: Folders,
    listed: Listed,
    settings: StationSettings,
    *,
    workers: int,
    ray: str = "",
    progress: Progress = SILENT,
) -> Progressed:
    """Answer all picks that have no record yet.

    Args:
        run: where the records go, stream `picks`.
        folders: where the picks are.
        listed: the first look.
        settings: of the nodes, with manifest and gallery.
        workers: processes.
        ray: see `predict`.
        progress: is told of every pick.

    Raises:
        ModelFileError: see `Perceiver`; and what `load_catalogue` raises.
    """
    return predict(
        run, PICKS, _jobs(run, folders, settings), StationDesk,
        (settings.of_a_worker(),),
        workers=workers, ray=ray, progress=progress, total=listed.count,
    )  # fmt: skip


def _jobs(run: RunFolder, folders: Folders, settings: StationSettings) -> Iterator[PickJob]:
    told: dict[str, Json] = {}
    where = str(folders.data)
    truth = StationTruth(where, told)

    def all_messages() -> Iterator[Heard]:
        for pick in folders.picks(Problems()):  # they were told of when these were listed
            told[pick.id] = keep_pick(pick.truth, where)
            yield from messages(pick)

    gatherer = Gatherer(find_root(folders.data).name, settings, truth, run.problems)
    for job in gatherer.jobs(all_messages()):
        del told[job.pick.pick_id]
        yield job
