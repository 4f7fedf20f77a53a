"""Jobs and desks that worker processes can import, and a program that predicts with them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robollm.cli.eval.options import resumable
from robollm.core.errors import FrameError, InferenceError, ModelFileError
from robollm.eval.records import DefectRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import predict

STREAM = "defects"
CARD = {
    "source": "folder",
    "data": {"root": "", "name": "counted", "split": "test"},
    "predictor": {"name": "counting", "bundle": "there", "sha256": "12ab"},
    "settings": {"score_min": 0.5},
}


@dataclass(frozen=True)
class CountingJob:
    number: int
    deed: str = "answer"

    @property
    def key(self) -> str:
        return f"{self.number:05}"

    def failed(self, error: dict[str, str]) -> DefectRecord:
        return DefectRecord(
            key=self.key, induct=self.key, frame=0, time_s=None, file="", label="nominal",
            error=error,
        )  # fmt: skip


class CountingDesk:
    """Answers with numbers that depend on the job alone."""

    def __init__(self, file_size: int = 0) -> None:
        self._padding = "x" * file_size

    def run(self, job: CountingJob) -> DefectRecord:
        deeds = {"die": die, "block": block, "bug": bug}
        if job.deed in deeds:
            deeds[job.deed]()
        if job.deed == "bad image":
            raise FrameError(f"image {job.number} is no image", kind="bad_image")
        if job.deed == "bad model":
            raise InferenceError("the model fell over")
        if job.deed == "no file":
            raise FileNotFoundError(2, "No such file or directory", "gone.jpg")
        p = float(np.random.default_rng(job.number).random())
        record = job.failed({})
        return replace(
            record, error=None, file=self._padding, probabilities={"nominal": p, "open": 1 - p}
        )

    def close(self) -> None:
        pass


class NoDesk(CountingDesk):
    def __init__(self) -> None:
        raise ModelFileError("the bundle is not there", fix="make one")


class OtherDesk(CountingDesk):
    def run(self, job: CountingJob) -> DefectRecord:
        return super().run(CountingJob(job.number + 1))


class DeadDesk(CountingDesk):
    def __init__(self) -> None:
        die()


def die() -> None:
    os._exit(9)


def block() -> None:
    """Never answer; end with the process that asks."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()


def bug() -> None:
    [][0]


def jobs(count: int, **deeds: str) -> list[CountingJob]:
    """Jobs 0 to count - 1; `deeds`: n7="die" is the deed of job 7."""
    return [CountingJob(n, deeds.get(f"n{n}", "answer")) for n in range(count)]


def main(out: Path, count: int, blocked: int, file_size: int) -> None:
    """Predict with two workers; job `blocked` never ends."""
    with resumable(out), RunFolder.create_or_resume(out, CARD) as run:
        some = jobs(count, **{f"n{blocked}": "block"})
        predict(run, STREAM, some, CountingDesk, (file_size,), workers=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
