"""Opening checkpoints as data, wherever they come from: nothing in them is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sslam_lightning.checkpoints.archive import open_archive
from sslam_lightning.checkpoints.formats.bat import from_bat_file, is_bat_file
from sslam_lightning.checkpoints.formats.eat_hf import MODEL_TYPE, from_eat_hf
from sslam_lightning.checkpoints.formats.fairseq import from_fairseq_file
from sslam_lightning.checkpoints.formats.lightning import LIGHTNING_MARK, from_lightning
from sslam_lightning.checkpoints.formats.mae_ast import MAE_AST_MARK, from_mae_ast_file
from sslam_lightning.checkpoints.formats.safetensors import FORMAT, from_safetensors, inside, read_folder, read_json
from sslam_lightning.checkpoints.formats.transformers import is_transformers_folder, read_transformers_folder
from sslam_lightning.checkpoints.hub import download, is_hub_id
from sslam_lightning.checkpoints.keys.config import Purpose
from sslam_lightning.checkpoints.latest import BEST, LAST
from sslam_lightning.checkpoints.verify import verify
from sslam_lightning.checkpoints.weights import Weights


def read_weights(source: str | Path, purpose: Purpose = "training") -> Weights:
    """The weights of a checkpoint of the EAT family, complete, of the size that it says, and finite.

    Args:
        source: a fairseq ``.pt`` file (MAE-AST's too), one of BAT's, one of our Lightning ``.ckpt`` files, a folder in the
            Hugging Face layout or in our own (``config.json`` and ``model.safetensors``), or, where no such path exists, a
            Hub id: ``owner/name`` or ``owner/name@revision``.
        purpose: what it is opened for. Settings of other projects that matter to it and are not computed here are refused;
            "training" means pre-training, which is all that a checkpoint can be opened for.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if the Hub cannot be asked.
        ValueError: if the checkpoint is damaged, unsafe, or of another project.
    """
    weights = _read(source, purpose)
    _ = weights.own_encoder  # a model of transformers is refused
    return weights


def read_model(source: str | Path, purpose: Purpose = "inference") -> Weights:
    """What :func:`read_weights` reads, or a model of Hugging Face transformers: in a checkpoint of ours or its own folder.

    Raises:
        ImportError: transformers is missing, and the source is one of its folders.
        FileNotFoundError, OSError, ValueError: as :func:`read_weights`.
    """
    path = Path(source)
    return read_transformers_folder(path) if is_transformers_folder(path) else _read(source, purpose)


def check_source(source: str | Path) -> None:
    """Raise FileNotFoundError unless there is such a path, or the name may be one of the Hub's."""
    if not Path(source).exists() and not is_hub_id(str(source)):
        raise FileNotFoundError(f"no checkpoint at {source}")


def _read(source: str | Path, purpose: Purpose) -> Weights:
    path = Path(source)
    if path.is_dir():
        return verify(_from_folder(path, str(source)))
    if path.is_file():
        return verify(_from_file(path, purpose))
    if not path.exists() and isinstance(source, str) and is_hub_id(source):
        return verify(_from_folder(download(source), source))
    raise FileNotFoundError(f"no checkpoint at {source}")


def _from_file(path: Path, purpose: Purpose) -> Weights:
    if path.suffix == ".safetensors":
        raise ValueError(f"{path} holds weights without their configuration: name the folder that holds both")
    content, size, source = open_archive(path), path.stat().st_size, str(path)
    if isinstance(content, Mapping):
        if is_bat_file(content):
            return from_bat_file(content, source, size, purpose)
        if LIGHTNING_MARK in content:
            return from_lightning(content, source, size)
        model = content.get("model")
        if isinstance(model, Mapping) and any(isinstance(content.get(name), Mapping) for name in ("cfg", "args")):
            reader = from_mae_ast_file if MAE_AST_MARK in model else from_fairseq_file
            return reader(content, source, size, purpose)
    raise ValueError(f"{path} is neither a fairseq checkpoint (model, cfg), nor one of BAT, nor one of this project")


def _from_folder(folder: Path, source: str) -> Weights:
    last = folder / "checkpoints" / LAST
    if last.is_file():
        best = f" or {BEST}" if last.with_name(BEST).is_file() else ""
        raise FileNotFoundError(f"no checkpoint at {folder}: it is the folder of a run, name one of its own: {last}{best}")
    config = read_json(inside(folder, "config.json"))
    if config.get("format") == FORMAT:
        return from_safetensors(config, read_folder(folder), source)
    if config.get("model_type") == MODEL_TYPE:
        return from_eat_hf(config, read_folder(folder), source)
    raise ValueError(f"{source}: its config.json is neither of model_type {MODEL_TYPE!r} nor of this project")
