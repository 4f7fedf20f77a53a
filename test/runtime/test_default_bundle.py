"""Which bundle runs where nobody names one, and what a name of a bundle means."""

from __future__ import annotations

from pathlib import Path

import pytest

from robollm.core.config import options
from robollm.core.errors import ConfigError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.default_bundle import (
    CARD,
    NAME,
    default_bundle,
    find_bundle,
    shipped_bundles,
    shipped_folders,
)

MODULE = Path("robollm", "runtime", "default_bundle.py")


def bundle(folder: Path) -> Path:
    """Something that looks like one from outside."""
    folder.mkdir(parents=True)
    (folder / CARD).write_text("{}")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with the default bundle, another one, and something else."""
    bundle(tmp_path / "models" / NAME)
    bundle(tmp_path / "models" / "shelf")
    (tmp_path / "models" / "notes").mkdir()
    return tmp_path / "models"


def test_the_default_bundle_is_the_shipped_one_of_that_name(models: Path) -> None:
    assert default_bundle([models]) == find_bundle("", [models]) == models / NAME
    assert shipped_bundles([models]) == {n: models / n for n in (NAME, "shelf")}


def test_without_a_default_bundle_the_error_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"'{NAME}', is not there: looked in .*empty") as e:
        default_bundle([tmp_path / "empty"])
    assert "sketch-bundle" in e.value.fix
    with pytest.raises(ConfigError, match="no folder models came with this installation"):
        default_bundle([])


def test_a_name_is_a_shipped_bundle_and_a_path_is_a_path(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models.parent)
    assert find_bundle("shelf", [models]) == models / "shelf"
    for path in ("./shelf", "models/shelf", str(models), ".", "..", "notes", "nothing"):
        assert find_bundle(path, [models]) == Path(path)


def test_a_folder_here_is_found_and_one_that_is_named_like_a_shipped_one_is_asked_about(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    bundle(work / "mine")
    bundle(work / "shelf")
    monkeypatch.chdir(work)
    assert find_bundle("mine", [models]) == Path("mine")
    with pytest.raises(ConfigError, match="'shelf' is two") as e:
        find_bundle("shelf", [models])
    assert e.value.fix == f"write ./shelf or {models / 'shelf'}"
    assert find_bundle("./shelf", [models]).resolve() == work / "shelf"
    monkeypatch.chdir(models)  # the same folder twice is no question
    assert find_bundle("shelf", [models]) == models / "shelf"


def test_a_checkout_comes_before_the_prefix_around_it(tmp_path: Path) -> None:
    source, prefix = tmp_path / "ws" / "src" / "robollm", tmp_path / "ws"
    shared = prefix / "share" / "robollm" / "models"
    shared.mkdir(parents=True)
    assert shipped_folders(source / MODULE) == (shared,)
    (source / "models").mkdir(parents=True)
    assert shipped_folders(source / MODULE) == (shared,)  # any folder may have that name
    (source / "package.xml").touch()
    assert shipped_folders(source / MODULE) == (source / "models", shared)


@pytest.mark.parametrize("packages", ["lib/python3.12/site-packages", "local/lib/x/dist-packages"])
def test_an_installed_copy_finds_the_share_folder_of_its_own_prefix(
    packages: str, tmp_path: Path
) -> None:
    shared = bundle(tmp_path / "install" / "share" / "robollm" / "models" / NAME).parent
    bundle(tmp_path / "other" / "share" / "robollm" / "models" / NAME)
    folders = shipped_folders(tmp_path / "install" / packages / MODULE)
    assert folders == (shared,)
    assert default_bundle(folders) == shared / NAME


def test_this_checkouts_models_are_the_ones_that_are_shipped(
    request: pytest.FixtureRequest,
) -> None:
    assert shipped_folders()[0] == request.config.rootpath / "models"


def test_the_setting_names_the_default_bundle() -> None:
    [doc] = [o.doc for o in options(RuntimeConfig) if o.name == "bundle"]
    assert NAME in doc
