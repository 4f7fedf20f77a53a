"""What was in the pictures that a run's samples were answered from: another content is refused.

The card's digest is of keys, files and truth; this is of the files' bytes. Each file counts by its
size and its two ends, where a picture or film that was made anew differs: one open file and 8 kB.
It is content and no time of change, so a folder may be copied. A sample without an answer may get
another picture: it is tried again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from robollm.core.errors import EvalError
from robollm.eval.progress import SILENT, Progress
from robollm.eval.records import Json
from robollm.eval.run_card import write_json
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks.defects import ImageJob
from robollm.eval.tasks.identification import PickJob
from robollm.eval.tasks.segmentation import SegmentationJob

FOLDER = "contents"
END = 4096
"""Bytes at each end of a file that are looked at."""
_NAMED = 3
FolderJob = SegmentationJob | PickJob | ImageJob


def fingerprint(file: Path) -> str:
    """Size and checksum of both ends of a file; "" if it can't be read."""
    try:
        with file.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            crc = zlib.crc32(f.read(END))
            f.seek(max(END, size - END))
            return f"{size}-{zlib.crc32(f.read(END), crc):08x}"
    except OSError:
        return ""


def of_files(files: Iterable[Path]) -> str:
    """The same of several, in their order."""
    return " ".join(map(fingerprint, files))


def of_jobs(jobs: Iterable[FolderJob], progress: Progress = SILENT) -> dict[str, str]:
    """Key -> fingerprint of the pictures that a sample of ARMBench's folders is answered from."""
    known: dict[str, str] = {}
    out = {}
    for job in jobs:
        files = job.files.values() if isinstance(job, PickJob) else (job.file,)
        for file in files:
            if file not in known:  # a film has many frames
                known[file] = fingerprint(job.root / file)
        out[job.key] = " ".join(known[file] for file in files)
        progress.advance()
    return out


def check_jobs(
    run: RunFolder, stream: str, jobs: Sequence[FolderJob], progress: Progress = SILENT
) -> None:
    """The same as `check` of the jobs' pictures; see there."""
    progress.begin(f"{stream}: are the pictures the same", len(jobs))
    try:
        prints = of_jobs(jobs, progress)
    finally:
        progress.end()
    check(run, stream, prints)


def check(run: RunFolder, stream: str, prints: Mapping[str, str]) -> None:
    """See that what is answered was answered from the same pictures; note those of all samples.

    Args:
        run: is written: `contents/STREAM.json`.
        stream: of the samples.
        prints: key -> fingerprint of its pictures.

    Raises:
        EvalError: if a sample that has an answer has other pictures now; or if an earlier version
            answered it, which noted nothing of them.
    """
    path = run.path / FOLDER / f"{stream.replace('/', '__')}.json"
    done = run.keys(stream) & prints.keys()
    before = _read(path)
    if done and before is None:
        raise EvalError(
            f"{str(run.path)!r} has {len(done)} answers of {stream}, and not what was in their "
            "pictures: an earlier robollm began it, or that file is lost",
            fix="begin anew with another --out, or remove this folder",
        )
    known = before or {}
    odd = sorted(key for key in done if known.get(key) != prints[key])
    if odd:
        shown = ", ".join(odd[:_NAMED]) + (", ..." if len(odd) > _NAMED else "")
        raise EvalError(
            f"{str(run.path)!r} was answered from other pictures: those of {len(odd)} of "
            f"{len(done)} answered samples of {stream} have another content now: {shown}",
            fix="give the data that the run was begun with, or another --out",
        )
    if known != prints:
        path.parent.mkdir(exist_ok=True)
        write_json(path, dict(prints))


def _read(path: Path) -> Json | None:
    """What was noted; None: nothing, or nothing that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
