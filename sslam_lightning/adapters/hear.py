"""The common API of the HEAR benchmark (Turian et al., 2022, https://hearbenchmark.com), as a module.

For instance ``python -m heareval.embeddings.runner sslam_lightning.adapters.hear --model MODEL``, where MODEL is a
checkpoint file, a folder or a Hugging Face Hub id.
"""

from __future__ import annotations

import os

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.inference import AudioModel, from_pretrained

_MODEL_VARIABLE = "SSLAM_MODEL"


class HearModel(nn.Module):
    """What HEAR asks of a model: its attributes; every clip has its own length, padding is masked."""

    def __init__(self, model: AudioModel) -> None:
        super().__init__()
        self.model = model
        self.sample_rate = model.sample_rate_hz
        self.scene_embedding_size = self.timestamp_embedding_size = model.dim

    def forward(self, audio: Float[Tensor, "sounds samples"]) -> Float[Tensor, "sounds dim"]:
        return get_scene_embeddings(audio, self)


def load_model(model_file_path: str = "") -> HearModel:
    """Open a model.

    Args:
        model_file_path: a checkpoint file, a folder or a Hub id; empty: what the environment variable SSLAM_MODEL names.

    Raises:
        ValueError: if neither names one.
    """
    return HearModel(open_model(model_file_path))


def get_scene_embeddings(audio: Float[Tensor, "sounds samples"], model: HearModel) -> Float[Tensor, "sounds dim"]:
    """One embedding per sound: the CLS token.

    Args:
        audio: at the model's ``sample_rate``, all of one length, full scale 1.
        model: from :func:`load_model`.
    """
    return model.model(audio, model.sample_rate).clip


def get_timestamp_embeddings(
    audio: Float[Tensor, "sounds samples"], model: HearModel
) -> tuple[Float[Tensor, "sounds time dim"], Float[Tensor, "sounds time"]]:
    """An embedding every 160 ms, and the middles of these stretches in milliseconds.

    A last stretch whose middle lies behind the end of the sound is left out.

    Args:
        audio: at the model's ``sample_rate``, all of one length, full scale 1.
        model: from :func:`load_model`.
    """
    found = model.model(audio, model.sample_rate)
    inside = int((found.timestamps <= audio.shape[1] / model.sample_rate).sum().clamp(min=1))
    milliseconds = (1000 * found.timestamps[:inside]).float().to(audio.device)
    return found.frames[:, :inside], milliseconds.expand(len(audio), -1)


def open_model(name: str = "") -> AudioModel:
    """The model that is named here, or by the environment variable SSLAM_MODEL, with padding masked.

    Raises:
        ValueError: if neither names one.
    """
    name = name or os.environ.get(_MODEL_VARIABLE, "")
    if not name:
        raise ValueError(f"no model is named: give a path or a Hub id, or set the environment variable {_MODEL_VARIABLE}")
    model = from_pretrained(name)
    model.mask_padding()
    return model
