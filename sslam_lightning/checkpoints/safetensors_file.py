"""Reading weights from a folder of safetensors, in one file or in several with an index."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sslam_lightning.checkpoints.json_file import MAX_BYTES, parse_json, read_json
from sslam_lightning.checkpoints.settings import read_state
from sslam_lightning.checkpoints.weights import State

NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"


def read_folder(folder: Path) -> State:
    """All weights of a folder.

    Raises:
        FileNotFoundError: if it has neither ``model.safetensors`` nor an index, or lacks a file of the index.
        ValueError: one line, if a file is damaged or lies outside of the folder.
    """
    if (folder / NAME).exists() or not (folder / INDEX_NAME).exists():
        return read_tensors(inside(folder, NAME))
    index = inside(folder, INDEX_NAME)
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index} has no weight_map from weights to files")
    state: State = {}
    for name in sorted(set(places.values())):
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ValueError(f"{index} names {name[:80]!r}, which is no safetensors file of its folder")
        state.update(read_tensors(inside(folder, name)))
    if state.keys() != places.keys():
        raise ValueError(f"{index} and its files do not hold the same weights")
    return state


def read_tensors(path: Path) -> State:
    """The weights of one file, which stay in it until they are used.

    Raises:
        ValueError: one line, if the file is damaged.
    """
    try:
        parse_json(_header(path))  # the library takes headers of 100 MB, and the last of two weights with one name
        with safe_open(path, framework="pt", device="cpu") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be opened as a checkpoint: {reason[:300]}") from None
    return read_state(state, str(path), path.stat().st_size)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_BYTES:
            raise ValueError(f"its header claims {length} bytes, a model's takes at most {MAX_BYTES}")
        return file.read(length)


def inside(folder: Path, name: str) -> Path:
    """A file of a folder. Links may lead to the folder itself or to where the Hub's cache keeps its files, not elsewhere.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a link that leads elsewhere.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {folder}: it holds no {name}")
    home, target = folder.resolve(), path.resolve()
    homes = [home, home.parents[1] / "blobs"] if len(home.parents) > 1 else [home]
    if not any(target.is_relative_to(place) for place in homes):
        raise ValueError(f"{path} is a link that leads out of its folder")
    return path
