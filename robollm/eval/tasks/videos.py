"""Videos of defects: frames of each film, evenly thinned out, are judged one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

from robollm.core.errors import FrameError
from robollm.core.frame import Frame
from robollm.data.armbench_defects import NOMINAL
from robollm.data.armbench_defects_scan import read_split, split_inducts
from robollm.data.armbench_videos import Film, Video, planned, scan_videos
from robollm.data.problems import Problems
from robollm.eval.predictors import Predictor
from robollm.eval.records import DefectRecord
from robollm.eval.tasks.choose import spread
from robollm.eval.tasks.defects import ImageJob
from robollm.eval.tasks.folders import check_split, refuse_empty
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

PER_SECOND = 2.0
MOST = 64
_SHARE = 0.1  # of validation where there is no list of it, as for images


def jobs(
    root: Path,
    folder: Path,
    split: str,
    problems: Problems,
    *,
    per_second: float = PER_SECOND,
    most: int = MOST,
    limit: int = 0,
) -> list[ImageJob]:
    """List the frames of a split's videos that are judged; only the films' heads are read.

    Args:
        root: the folder that files are named relative to.
        folder: of videos.
        split: "test", "val" or "train".
        problems: gets what `scan_videos` and `planned` find, and `label_form`, where labels are
            not written as one word.
        per_second: frames of each second.
        most: frames of a video, at most.
        limit: at most so many videos, evenly spread; 0: all.

    Raises:
        ConfigError: if a list is missing, a video is in two splits, or nothing can be used.
    """
    check_split("videos", folder, split)
    refuse_empty("videos", folder, split)
    ids, final = read_split(folder, split, problems)
    forms: Counter[str] = Counter()
    if final:
        found = scan_videos(folder, spread(ids, limit), problems, forms)
    else:
        every = {v.id: v for v in scan_videos(folder, ids, problems, forms)}
        nominal = (NOMINAL,)
        labels = {one: NOMINAL if v.labels == nominal else "package_defect"
                  for one, v in every.items()}  # fmt: skip
        train, val = split_inducts(labels, _SHARE, 0)
        found = [every[one] for one in spread(train if split == "train" else val, limit)]
    for form, n in forms.items():
        if form != "str":
            problems.note("label_form", folder, f"{n} labels are written as a {form}", "understood")
    out = [job for video in found for job in _frames(root, video, per_second, most, problems)]
    problems.refuse_if_empty(len(out), f"{folder}, split {split}", "check the folder and its lists")
    return out


class VideoDesk:
    """Answers the jobs of one process; the film at hand stays open.

    Args:
        predictor: who is asked.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._stamps = count(1)
        self._film: Film | None = None

    def run(self, job: ImageJob) -> DefectRecord:
        """Answer one job.

        Raises:
            FrameError: if the film ends before, or can't be read.
            InferenceError: if the model fails.
        """
        laps = Laps()
        with laps.stage("read"):
            rgb = self._opened(job.root / job.file).frame(job.frame)
        region = Region(Frame(rgb, "rgb", stamp_ns=next(self._stamps)))
        # To the predictor both labels of videos are one of a picture's.
        label = NOMINAL if job.label == NOMINAL else "package_defect"
        return job.answered(self._predictor.inspect(region, label, laps), laps.ms)

    def _opened(self, path: Path) -> Film:
        if self._film is None or self._film.path != path:
            if self._film is not None:
                self._film.close()
            self._film = Film(path)
        return self._film

    def close(self) -> None:
        """Let go of the model and the film."""
        if self._film is not None:
            self._film.close()
        self._predictor.close()


def _frames(
    root: Path, video: Video, per_second: float, most: int, problems: Problems
) -> list[ImageJob]:
    file = str(video.path.relative_to(root))
    base = ImageJob(root, file, video.id, 0, 0.0, video.label, None)
    try:
        plan = planned(video.path, per_second=per_second, most=most, problems=problems)
    except FrameError as e:
        problems.note(e.kind, f"video {video.id}", e.what, "counts as not judged")
        return [base]
    return [replace(base, frame=number, time_s=time) for number, time in plan]
