"""Our form for sharing, and every other folder of safetensors.

A model of ours is all that a checkpoint knows of it, as JSON and safetensors, and nothing of its training.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sslam_lightning.checkpoints.json_file import MAX_BYTES, inside, parse_json, read_json
from sslam_lightning.checkpoints.messages import first_line
from sslam_lightning.checkpoints.metadata import NAMES, with_own_section, write_metadata
from sslam_lightning.checkpoints.settings import as_kind, read_dataclass, read_decoder
from sslam_lightning.checkpoints.state_dict import read_state
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import EncoderConfig

FORMAT = "sslam_lightning"
WEIGHTS_NAME, INDEX_NAME = "model.safetensors", "model.safetensors.index.json"
_VERSION = 1
_PARTS = ("student", "teacher", "decoder", "reconstruction", "head", "contrast")


def from_shared(config: Mapping[str, Any], state: State, source: str) -> Weights:
    """The weights of a folder in our form."""
    where = f"{source}: config.json"
    version = as_kind(config.get("version"), int, f"{where}: version")
    if version > _VERSION:
        raise ValueError(f"{source} has version {version} of its form, this release knows {_VERSION}: install a newer one")
    if config.get("encoder") is None:
        raise ValueError(f"{source}: its config.json has no encoder")
    parts: dict[str, State] = defaultdict(dict)
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts[part if part in _PARTS else ""][rest if part in _PARTS else name] = tensor
    unknown = [f"config.json: {name[:80]}" for name in config if name not in (*NAMES, "format", "version", "decoder")]
    unused = (*parts.pop("", {}), *unknown)
    encoder = read_dataclass(EncoderConfig, config["encoder"], f"{where}.encoder")
    weights = Weights(source, encoder, parts.pop("student", {}), unused=unused)._replace(**parts)
    if config.get("decoder") is not None:
        decoder = read_decoder(weights.decoder or {}, config["decoder"], f"{where}: decoder")
        weights = weights._replace(decoder_config=decoder)
    return with_own_section(weights, config, where)


def to_shared(weights: Weights) -> tuple[dict[str, Any], State]:
    """``config.json`` and all weights, each name behind that of its part."""
    decoder = asdict(weights.decoder_config) if weights.decoder_config else None
    config = {"format": FORMAT, "version": _VERSION, **write_metadata(weights), "decoder": decoder}
    state = {f"{part}.{name}": tensor for part in _PARTS for name, tensor in (getattr(weights, part) or {}).items()}
    return config, state


def read_folder(folder: Path) -> State:
    """All weights of a folder, in one file or in several with an index."""
    if (folder / WEIGHTS_NAME).exists() or not (folder / INDEX_NAME).exists():
        return _read_tensors(inside(folder, WEIGHTS_NAME))
    index = inside(folder, INDEX_NAME)
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index} has no weight_map from weights to files")
    state: State = {}
    for name in sorted(set(places.values())):
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ValueError(f"{index} names {name[:80]!r}, which is no safetensors file of its folder")
        state.update(_read_tensors(inside(folder, name)))
    if state.keys() != places.keys():
        raise ValueError(f"{index} and its files do not hold the same weights")
    return state


def _read_tensors(path: Path) -> State:
    """The weights of one file, which stay in it until they are used."""
    try:
        parse_json(_header(path))  # the library takes headers of 100 MB, and the last of two weights with one name
        with safe_open(path, framework="pt", device="cpu") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} cannot be opened as a checkpoint: {first_line(error)}") from None
    return read_state(state, str(path), path.stat().st_size)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_BYTES:
            raise ValueError(f"its header claims {length} bytes, a model's takes at most {MAX_BYTES}")
        return file.read(length)
