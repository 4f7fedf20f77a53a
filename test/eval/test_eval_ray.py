from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import counting_desk
import pytest
from counting_desk import CARD, STREAM, CountingDesk, NoDesk, jobs

from robollm.core.errors import ConfigError, EvalError, ModelFileError
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import predict
from robollm.runtime.ray_cluster import cluster

# Ray sets settings of its own that it has deprecated, and leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def ray_of_two():
    """A Ray of two processors on this machine, that leaves nothing behind."""
    folder = tempfile.mkdtemp(prefix="ray-")  # short: the names of its sockets must fit in
    before = dict(os.environ)
    os.environ["RAY_TMPDIR"] = folder
    here = str(Path(counting_desk.__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    try:
        with cluster("", 2):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def on_ray(folder, some, make=CountingDesk, workers=2, card=CARD):
    with RunFolder.create_or_resume(folder, card) as run:
        return predict(run, STREAM, some, make, (), workers=workers, ray="local")


@pytest.mark.usefixtures("ray_of_two")
def test_two_workers_of_ray_write_the_records_that_processes_write_and_go_on(tmp_path):
    some = jobs(30, n3="bad image", n8="bad model", n11="die")
    with RunFolder.create_or_resume(tmp_path / "plain", CARD) as plain:
        predict(plain, STREAM, some, CountingDesk, (), workers=2)
    done = on_ray(tmp_path / "ray", some)
    assert (done.done, done.skipped, done.failed) == (27, 0, 3)
    one, other = (RunFolder.open(tmp_path / name) for name in ("plain", "ray"))
    wanted = {r.key: r for r in one.records(STREAM)}
    got = {r.key: r for r in other.records(STREAM)}
    lost = (wanted.pop("00011").error["kind"], got.pop("00011").error["kind"])
    assert lost == ("worker_died", "worker_died")
    assert got == wanted, "errors, too"
    assert one.card["streams"] == other.card["streams"]
    again = on_ray(tmp_path / "ray", jobs(30))
    assert (again.done, again.skipped, again.failed) == (3, 27, 0)


@pytest.mark.usefixtures("ray_of_two")
def test_what_keeps_rays_workers_from_work_is_an_error_in_words(tmp_path, monkeypatch):
    with pytest.raises(ModelFileError, match="the bundle is not there") as e:
        on_ray(tmp_path / "a", jobs(4), NoDesk)
    assert e.value.fix == "make one"
    only_here = ModuleType("only_here")  # as robollm is on a machine that lacks it
    only_here.Desk = type("Desk", (CountingDesk,), {"__module__": "only_here"})
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    with pytest.raises(EvalError, match=r"Ray could not start a worker: .*only_here") as e:
        on_ray(tmp_path / "d", jobs(4), only_here.Desk)
    assert "every machine has this robollm" in e.value.fix
    with pytest.raises(ConfigError, match=r"3 workers .* don't fit Ray's cluster of 2 proc"):
        on_ray(tmp_path / "b", jobs(4), workers=3)
    away = {**CARD, "data": {**CARD["data"], "root": str(tmp_path / "away")}}
    with pytest.raises(ConfigError, match=r"doesn't see the data .*away") as e:
        on_ray(tmp_path / "c", jobs(4), card=away)
    assert "shared folder" in e.value.fix


def test_without_ray_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ConfigError, match="not installed") as e:
        on_ray(tmp_path, jobs(1))
    assert "robollm[ray]" in e.value.fix
