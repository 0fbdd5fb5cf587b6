"""Models by their Hub id: files and nothing else, offline from the cache, and clear words where neither is there."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_weights import assert_same_bits, finetuned

from sslam_lightning.checkpoints import read_weights
from sslam_lightning.checkpoints.hub import is_hub_id
from sslam_lightning.checkpoints.write import write_weights

huggingface_hub = pytest.importorskip("huggingface_hub")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", ["ta012/SSLAM_pretrain", "worstchan/EAT-base_epoch30_pretrain", "a/b.c@main", "a/b@v1.0"])
def test_names_of_models(name: str) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize(
    "name",
    ["model", "a/b/c", "./a", "../a", "/a/b", "runs/last.ckpt", "a/b.pt", "a/model.safetensors", "a/", "/b", "a b/c"],
)
def test_names_of_files(name: str) -> None:
    assert not is_hub_id(name)


def test_what_is_fetched(tmp_path, monkeypatch) -> None:
    original = finetuned()
    write_weights(original, tmp_path / "model", "eat_hf")
    asked: list[Any] = []

    def fetch(repository: str, **settings: Any) -> str:
        asked.append((repository, settings))
        return str(tmp_path / "model")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    weights = read_weights("someone/crows@v2")
    assert_same_bits(weights, original)
    assert weights.source == "someone/crows@v2"
    ((repository, settings),) = asked
    assert (repository, settings["revision"]) == ("someone/crows", "v2")
    for pattern in settings["allow_patterns"]:
        assert pattern.endswith((".json", ".safetensors"))
    assert read_weights(Path("model")).source == "model"
    with pytest.raises(FileNotFoundError, match="no checkpoint at someone/crows"):
        read_weights(Path("someone/crows"))  # a path is a path
    Path("someone/crows").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"it holds no config\.json"):
        read_weights("someone/crows")  # what is here comes first
    assert len(asked) == 1


def in_the_cache(cache: Path) -> None:
    """A model as the Hub's library keeps it: links to files named by their content."""
    home = cache / "models--someone--crows"
    snapshot, blobs = home / "snapshots" / REVISION, home / "blobs"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(REVISION)
    write_weights(finetuned(), snapshot, "eat_hf")
    blobs.mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        shutil.move(path, blobs / str(number))
        path.symlink_to(Path("../../blobs") / str(number))


def test_the_cache_serves_without_a_network(tmp_path, monkeypatch) -> None:
    in_the_cache(tmp_path)
    # What HF_HUB_OFFLINE and HF_HUB_CACHE set, had they been there when the library was imported.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert read_weights("someone/crows").class_names == finetuned().class_names
    assert read_weights(f"someone/crows@{REVISION}").source == f"someone/crows@{REVISION}"
    with pytest.raises(OSError, match=r"^no checkpoint at someone/else, and the Hub did not give one: \S") as caught:
        read_weights("someone/else")
    assert "\n" not in str(caught.value)


def test_without_the_library(monkeypatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    message = (
        r"^no checkpoint at a/b, and to look on the Hub huggingface_hub is needed: pip install 'sslam-lightning\[hub\]'$"
    )
    with pytest.raises(OSError, match=message):
        read_weights("a/b")
