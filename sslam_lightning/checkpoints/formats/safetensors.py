"""Our form for sharing, and every other folder of safetensors.

A model of ours is all that a checkpoint knows of it, as JSON and safetensors, and nothing of its training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sslam_lightning.checkpoints.messages import first_line
from sslam_lightning.checkpoints.metadata import NAMES, read_metadata, write_metadata
from sslam_lightning.checkpoints.settings import as_kind, read_dataclass, read_decoder, write_choice
from sslam_lightning.checkpoints.state_dict import read_state, with_prefix
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import EncoderConfig

FORMAT = "sslam_lightning"
WEIGHTS_NAME = "model.safetensors"
_VERSION = 1
# A configuration with the names of 527 classes takes 30 thousand, the table of contents of a large model 100 thousand;
# what a text of JSON becomes in memory may be thirty times as large as it is.
_MAX_BYTES = 2 * 2**20
_PARTS = ("student", "teacher", "decoder", "reconstruction", "head", "contrast")


def from_safetensors(config: Mapping[str, Any], state: State, source: str) -> Weights:
    """The weights of a folder in our form."""
    where = f"{source}: config.json"
    version = as_kind(config.get("version"), int, f"{where}: version")
    if version > _VERSION:
        raise ValueError(f"{source} has version {version} of its form, this release knows {_VERSION}: install a newer one")
    if config.get("encoder") is None:
        raise ValueError(f"{source}: its config.json has no encoder")
    parts: dict[str, Any] = {part: own for part in _PARTS if (own := with_prefix(state, f"{part}."))}
    unknown = [name for name in state if not name.startswith(tuple(f"{part}." for part in _PARTS))]
    unknown += [f"config.json: {name[:80]}" for name in config if name not in (*NAMES, "format", "version", "decoder")]
    encoder = read_dataclass(EncoderConfig, config["encoder"], f"{where}.encoder")
    if config.get("decoder") is not None:
        parts["decoder_config"] = read_decoder(config["decoder"], encoder.dim, f"{where}: decoder")
    weights = Weights(source, encoder, parts.pop("student", {}), unused=tuple(unknown))
    return weights._replace(**parts, **read_metadata(config, where))


def to_safetensors(weights: Weights) -> tuple[dict[str, Any], State]:
    """``config.json`` and all weights, each name behind that of its part."""
    decoder = write_choice(weights.decoder_config) if weights.decoder_config else None
    config = {"format": FORMAT, "version": _VERSION, **write_metadata(weights), "decoder": decoder}
    state = {f"{part}.{name}": tensor for part in _PARTS for name, tensor in (getattr(weights, part) or {}).items()}
    return config, state


def read_folder(folder: Path) -> State:
    """All weights of a folder, which stay in its file until they are used."""
    path = inside(folder, WEIGHTS_NAME)
    try:
        _parse_json(_header(path))  # the library takes headers of 100 MB, and the last of two weights with one name
        with safe_open(path, framework="pt", device="cpu") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} cannot be opened as a checkpoint: {first_line(error)}") from None
    return read_state(state, str(path), path.stat().st_size)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_BYTES:
            raise ValueError(f"its header claims {length} bytes, a model's takes at most {_MAX_BYTES}")
        return file.read(length)


def read_json(path: Path) -> dict[str, Any]:
    """The one table that a JSON file holds."""
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"{path} takes {size} bytes, the JSON of a model takes at most {_MAX_BYTES}")
    try:
        return _parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not the JSON of a model: {error}") from None


def _parse_json(text: bytes) -> dict[str, Any]:
    """The one table that a text of JSON is; raises as :func:`read_json`."""
    try:
        content = json.loads(text, object_pairs_hook=_table, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a table")
    return content


def inside(folder: Path, name: str) -> Path:
    """A file of a folder. Links may lead into the folder itself or to where the Hub's cache keeps its files."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {folder}: it holds no {name}")
    home, target = folder.resolve(), path.resolve()
    if not target.is_relative_to(home) and not target.is_relative_to(home.parent.parent / "blobs"):
        raise ValueError(f"{path} is a link that leads out of its folder")
    return path


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("it names a key twice")
    return table


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
