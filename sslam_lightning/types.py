"""The nouns that the parts of the project hand to each other.

Polarity is fixed here, once: in every mask of the project ``True`` means *hidden* (or *padding*), in every
label 1 means *present*. All shapes are written as (rows first, features last).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

# What changes sample rates; see `sslam_lightning.data.audio.resample`.
ResamplerName = Literal["torchaudio", "soxr"]


class Grid(NamedTuple):
    """Extent of a field of patches. Patches are numbered time-major: ``index = time * mel + mel_index``.

    Tokens in one line (of a waveform, of a text) are a field with ``mel`` = 1; the rows of an image stand for time.
    """

    time: int
    freq: int

    @property
    def num_patches(self) -> int:
        return self.time * self.freq


class Event(NamedTuple):
    """One sound in a recording, in seconds from its beginning."""

    onset_seconds: float
    offset_seconds: float
    label: str


class Events(NamedTuple):
    """The sounds of clips, in seconds from the beginning of each clip; one that has no length stands for none."""

    class_index: Int[Tensor, "*clips events"]
    onset_seconds: Float[Tensor, "*clips events"]
    offset_seconds: Float[Tensor, "*clips events"]


class Clip(NamedTuple):
    """One recording, as a dataset hands it to the collate function."""

    waveform: Float[Tensor, "samples"]  # mono, at the data module's sample rate
    labels: Float[Tensor, "classes"]  # multi-hot; zero classes wide where the data has no labels
    clip_index: int  # place in the data set: together with seed and epoch it keys all randomness of this clip
    name: str
    events: Events | None = None  # when what is heard, where the data tells


class Batch(NamedTuple):
    """Recordings of one step, padded with zeros behind their own end.

    Lengths are plain numbers, which nobody moves to a GPU: shapes depend on them, and to ask the GPU is to wait.
    """

    waveforms: Float[Tensor, "batch samples"]
    lengths: Sequence[int]  # valid samples of each row
    labels: Float[Tensor, "batch classes"]
    clip_index: Int[Tensor, "batch"]
    names: tuple[str, ...]
    broken: tuple[tuple[str, str], ...] = ()  # (name, reason) of the clips that were left out of this batch
    events: Events | None = None  # rows filled up with sounds of no length

    @property
    def num_samples(self) -> Int[Tensor, "batch"]:
        # On the host, wherever the waveforms are.
        return torch.as_tensor(self.lengths, dtype=torch.int64, device="cpu")


class ImageBatch(NamedTuple):
    """Images of one step, all of one size."""

    images: Float[Tensor, "batch channels rows columns"]
    labels: Float[Tensor, "batch classes"]
    clip_index: Int[Tensor, "batch"]
    names: tuple[str, ...]
    broken: tuple[tuple[str, str], ...] = ()


class TextBatch(NamedTuple):
    """Pieces of text of one step, filled up with the padding token behind their own end."""

    tokens: Int[Tensor, "batch tokens"]
    lengths: Sequence[int]  # written tokens of each row, see `Batch`
    labels: Float[Tensor, "batch classes"]
    clip_index: Int[Tensor, "batch"]
    names: tuple[str, ...]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def num_tokens(self) -> Int[Tensor, "batch"]:
        # On the host, wherever the tokens are.
        return torch.as_tensor(self.lengths, dtype=torch.int64, device="cpu")


AnyBatch = Batch | ImageBatch | TextBatch


class Mask(NamedTuple):
    """Which tokens of each row the student does not see. Every row hides the same number of tokens."""

    hidden: Bool[Tensor, "rows tokens"]
    ids_keep: Int[Tensor, "rows visible"]  # ascending
    ids_masked: Int[Tensor, "rows hidden"]  # ascending


class Mixture(NamedTuple):
    """Clips as the student meets them: the clean ones, and behind them (stage 2) their mixtures.

    ``partner[i]`` is the clip that was mixed into clip i, ``shared_columns[i]`` the columns of patches (ascending) in
    which the mixture holds both sounds. Both are None where nothing is mixed. ``padding`` is True for tokens behind a
    clip's end; None where there are none.
    """

    clips: Shaped[Tensor, "clips *shape"]  # log-mels, or what another front-end reads
    partner: Int[Tensor, "batch"] | None = None
    shared_columns: Int[Tensor, "batch columns"] | None = None
    padding: Bool[Tensor, "clips tokens"] | None = None

    def shared_patches(self, grid: Grid) -> Int[Tensor, "batch shared"]:
        assert self.shared_columns is not None, "only mixtures share columns"
        mels = torch.arange(grid.freq, device=self.shared_columns.device)
        return (self.shared_columns.unsqueeze(-1) * grid.freq + mels).flatten(1)


class BlockInput(NamedTuple):
    """A choice of a clip's embedded tokens, and what the blocks have to know about them."""

    tokens: Float[Tensor, "rows kept dim"]
    padding: Bool[Tensor, "rows kept"] | None = None  # not to be attended to
    bias: Float[Tensor, "biases heads kept kept"] | None = None  # adds to attention scores; one for all rows or one each


class Predictions(NamedTuple):
    """What the student makes of masked clips; rows are clips x masks, clip by clip."""

    patches: Float[Tensor, "rows hidden dim"]  # the decoder's output at the hidden patches
    cls: Float[Tensor, "rows dim"]  # the CLS token
    values: Float[Tensor, "rows hidden values"] | None = None  # read out of `patches` for reconstruction
    contrast: Float[Tensor, "rows hidden values"] | None = None  # read out of `patches` for InfoNCE


class Targets(NamedTuple):
    """What the teacher makes of whole clips."""

    patches: Float[Tensor, "clips patches dim"]
    clip: Float[Tensor, "clips dim"]  # mean over patches
    retained: Float[Tensor, "batch patches dim"] | None = None  # for the mixtures: both sources


class PretrainOutput(NamedTuple):
    """What a loss of pre-training compares. ``targets`` and ``masked_targets`` are None without a teacher."""

    predictions: Predictions
    mask: Mask
    targets: Targets | None = None  # of whole clips
    masked_targets: Float[Tensor, "rows hidden dim"] | None = None  # those at the hidden patches
    masked_values: Float[Tensor, "rows hidden values"] | None = None  # the hidden patches' own, where a loss asks for them

    @property
    def clip_targets(self) -> Float[Tensor, "rows dim"]:
        """The target of every row's clip."""
        assert self.targets is not None, "there is no teacher"
        rows_per_clip = len(self.predictions.cls) // len(self.targets.clip)
        return self.targets.clip.repeat_interleave(rows_per_clip, dim=0)


class EncoderOutput(NamedTuple):
    """What an encoder makes of a row of tokens."""

    cls: Float[Tensor, "rows dim"]  # the CLS token (CLS)
    tokens: Float[Tensor, "rows tokens dim"]
    hidden_states: tuple[Float[Tensor, "rows tokens dim"], ...]  # per block, CLS token left out; empty unless asked for
