"""Predicting without worker processes, for tests that are not about them."""

from __future__ import annotations

from pathlib import Path

from robollm.core.errors import RobollmError
from robollm.core.settings import RuntimeConfig
from robollm.eval import armbench
from robollm.eval.armbench import Order, evaluate
from robollm.eval.records import as_error
from robollm.eval.run_folder import RunFolder


def predict_here(run, stream, jobs, make_desk, arguments, **_):
    """What `runner.predict` does, in this process."""
    desk = make_desk(*arguments)
    known = run.keys(stream)
    with run.journal(stream) as journal:
        for job in jobs:
            if job.key in known:
                continue
            try:
                journal.append(desk.run(job))
            except RobollmError as e:
                journal.append(job.failed(as_error(e)))
    desk.close()
    run.note_stream(stream, len(jobs))


def answered(monkeypatch, data: Path, out: Path, predictor: str = "oracle", **more) -> RunFolder:
    """A run of a predictor over a folder."""
    monkeypatch.setattr(armbench, "predict", predict_here)
    config = RuntimeConfig(bundle=str(more.pop("bundle", "")), allow_untrained=True)
    evaluate(Order(data=data, out=out, predictor=predictor, config=config, **more))
    return RunFolder.open(out)
