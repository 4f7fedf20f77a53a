"""From a job to a record, in whatever process: what goes wrong becomes part of the record."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from robollm.core.errors import RobollmError
from robollm.eval.records import Record, as_error, kind_of, named_error


class Job(Protocol):
    """One sample to predict; picklable."""

    @property
    def key(self) -> str:
        """Unique in its stream."""

    def failed(self, error: dict[str, str]) -> Record:
        """The sample's record when there is no answer.

        Args:
            error: becomes the record's.
        """


class Desk(Protocol):
    """What a process makes once, and then answers its jobs with."""

    def run(self, job: Any) -> Record:
        """Answer one job. What it raises becomes the record of the job."""

    def close(self) -> None:
        """Free what it holds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes back from a process: the record's line, and its error or None."""

    line: bytes
    error: dict[str, str] | None


class Recorder:
    """A desk whose every job ends in a record; runs in the worker.

    Args:
        stream: of the records.
        make: makes the desk; what that raises ends the run.
        arguments: of `make`.
    """

    def __init__(self, stream: str, make: Callable[..., Desk], arguments: tuple[Any, ...]) -> None:
        self._kind = kind_of(stream)
        self._desk = make(*arguments)

    def run(self, job: Job) -> Outcome:
        """Answer one job, or say why not."""
        try:
            record = self._desk.run(job)
            assert record.key == job.key, f"record {record.key!r} of job {job.key!r}"
            assert isinstance(record, self._kind), f"{type(record)} is not the stream's"
            return Outcome(record.to_line(), record.error)
        except RobollmError as e:
            error = as_error(e)
        except OSError as e:
            error = named_error("unreadable", str(e))
        except MemoryError:
            error = named_error("out_of_memory", "not enough memory for this sample")
        except Exception:  # a bug must not cost the other samples; the run says that it is there
            error = named_error("bug", traceback.format_exc())
        return Outcome(job.failed(error).to_line(), error)

    def close(self) -> None:
        """See `Desk`."""
        self._desk.close()
