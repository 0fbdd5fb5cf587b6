"""Any encoder of Hugging Face transformers as a student: the plain model, with tokens hidden where it embeds them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.front_end import BatchReader, Readings, padding_behind
from sslam_lightning.models.plain_transformers import (
    make_config,
    make_model,
    plain_settings,
    read_settings,
    transformers_library,
)
from sslam_lightning.models.teacher import follow
from sslam_lightning.models.waveform import normalise_clips
from sslam_lightning.types import AnyBatch, Grid, ImageBatch, TextBatch

# Where the usual models turn input into tokens, before positions are added: text, images and spectrograms, waveforms.
_TOKEN_MODULES = ("embeddings.word_embeddings", "embeddings.patch_embeddings", "feature_projection")
_IDLE = ("pooler", "masked_spec_embed", "mask_token")  # take no part in hidden states; DDP wants to know that beforehand


@dataclass(frozen=True)
class HuggingFaceConfig:
    """Which model of transformers, told offline: nothing is downloaded, and no code that comes with a model is run.

    Args:
        model: a folder with a ``config.json``, or a model type of transformers: ``roberta``, ``beit``, ``wav2vec2``,
            ``audio-spectrogram-transformer`` ...
        settings: replace those of the folder, or the defaults of the type.
        token_module: the part of the model whose output is one vector a token, before positions are added; None finds the
            usual ones.
    """

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    token_module: str | None = None

    def resolve(self) -> Any:
        """The configuration of transformers.

        Raises:
            ImportError: transformers is missing.
            ValueError: if there is no such model, it has no such setting, or one asks for code from elsewhere.
        """
        try:
            make: Callable[..., Any]
            if (Path(self.model) / "config.json").is_file():
                make = partial(make_config, read_settings(Path(self.model)))
            else:
                make = partial(transformers_library().AutoConfig.for_model, self.model)
            known = make()
            for name in self.settings:
                if not hasattr(known, name):
                    raise ValueError(f"a {known.model_type} has no setting {name}")
            return make(**plain_settings(self.settings))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ValueError(
                "encoder.model must be a folder with a config.json or a model type of transformers, and encoder.settings "
                f"must be its own, got {self.model!r}: {reason}"
            ) from None


class HiddenStates(NamedTuple):
    """What a model makes of clips; special tokens in front, such as [CLS], are left out."""

    tokens: Float[Tensor, "rows tokens dim"]  # the model's last hidden state
    layers: tuple[Float[Tensor, "rows tokens dim"], ...]  # outputs of its blocks, the last one last


class HuggingFaceEncoder(nn.Module, BatchReader):
    """A model of transformers as it is, in ``model``; beside it only the vector that stands for hidden tokens.

    The model reads what its ``main_input_name`` says: ``input_ids`` text, ``pixel_values`` images, anything else log-mels,
    where the module has features, or waveforms. Two switches of training that some models have are off,
    ``apply_spec_augment`` and ``layerdrop``, as the saved configuration tells.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__()
        resolved = config.resolve()
        # A mask of its own on top of ours; blocks that sit a step out, which DDP does not take.
        for name, off in (("apply_spec_augment", False), ("layerdrop", 0.0)):
            if hasattr(resolved, name):
                setattr(resolved, name, off)
        self.model = make_model(resolved)
        for name, parameter in self.model.named_parameters():
            if any(part in _IDLE for part in name.split(".")):
                parameter.requires_grad_(False)
        self.dim = int(resolved.hidden_size)
        self.depth = int(resolved.num_hidden_layers)
        self.token_module = self._find_token_module(config.token_module)
        words = getattr(self.model.get_submodule(self.token_module), "embedding_dim", self.dim)
        self.mask_token = nn.Parameter(torch.zeros(int(words)))
        nn.init.normal_(self.mask_token, std=0.02)
        convolutions = zip(getattr(resolved, "conv_kernel", ()), getattr(resolved, "conv_stride", ()), strict=True)
        self.min_samples = reduce(lambda n, layer: (n - 1) * layer[1] + layer[0], reversed(list(convolutions)), 1)

    def read(self, batch: AnyBatch) -> Readings:
        """Tokens, images or waveforms, and what of their length is padding: of texts tokens, of waveforms samples."""
        if isinstance(batch, TextBatch):
            return Readings(batch.tokens, padding_behind(batch.num_tokens, batch.tokens.shape[1]))
        if isinstance(batch, ImageBatch):
            return Readings(batch.images)
        return Readings(
            normalise_clips(batch.waveforms, batch.num_samples), padding_behind(batch.num_samples, batch.waveforms.shape[1])
        )

    def forward(
        self,
        clips: Shaped[Tensor, "rows *shape"],
        padding: Bool[Tensor, "rows length"] | None = None,
        hidden: Bool[Tensor, "rows tokens"] | None = None,
        keep_layers: int = 0,
    ) -> HiddenStates:
        """Hidden states of clips whose tokens are replaced by the mask token where ``hidden`` is True.

        Args:
            clips: what the model reads.
            padding: True behind a clip's end, in the clips' own length.
            hidden: which tokens are hidden; None shows all.
            keep_layers: how many of the last blocks' outputs to return.
        """
        inputs = {self.model.main_input_name: clips}
        if padding is not None:
            inputs["attention_mask"] = (~padding).long()
        with self._hiding(hidden) as num_tokens:
            found = self.model(**inputs, output_hidden_states=keep_layers > 0)
        layers = found.hidden_states[-keep_layers:] if keep_layers else ()
        return HiddenStates(
            found.last_hidden_state[:, -num_tokens[0] :], tuple(layer[:, -num_tokens[0] :] for layer in layers)
        )

    def grid(self, clips: Shaped[Tensor, "rows *shape"], num_tokens: int) -> Grid:
        """The field of tokens: rows and columns where a convolution cuts patches (of spectrograms mels by time), else one
        line.
        """
        cut = getattr(self.model.get_submodule(self.token_module), "projection", None)
        if not isinstance(cut, nn.Conv2d):
            return Grid(num_tokens, 1)
        height = clips.shape[-2] if self.model.main_input_name == "pixel_values" else clips.shape[-1]
        rows = (height - cut.kernel_size[0]) // cut.stride[0] + 1
        return Grid(rows, num_tokens // rows)

    def token_padding(
        self, padding: Bool[Tensor, "rows length"] | None, num_tokens: int
    ) -> Bool[Tensor, "rows tokens"] | None:
        """Which tokens are padding, from what of the clips' length is."""
        if padding is None or padding.shape[1] == num_tokens:
            return padding
        return ~self.model._get_feature_vector_attention_mask(num_tokens, (~padding).long())

    @contextmanager
    def _hiding(self, hidden: Tensor | None) -> Iterator[list[int]]:
        """Hide tokens where the model makes them; the list then holds how many there are."""
        num_tokens: list[int] = []

        def replace(_: nn.Module, __: Any, output: Any) -> Any:
            first = output if isinstance(output, Tensor) else output[0]
            num_tokens.append(first.shape[1])
            if hidden is None:
                return None
            masked = torch.where(hidden.unsqueeze(-1), self.mask_token.to(first.dtype), first)
            return masked if isinstance(output, Tensor) else (masked, *output[1:])

        handle = self.model.get_submodule(self.token_module).register_forward_hook(replace)
        try:
            yield num_tokens
        finally:
            handle.remove()

    def _find_token_module(self, name: str | None) -> str:
        known = dict(self.model.named_modules())
        found = [candidate for candidate in ((name,) if name else _TOKEN_MODULES) if candidate in known]
        if not found:
            looked = name or ", ".join(_TOKEN_MODULES)
            raise ValueError(
                f"a {type(self.model).__name__} has no part {looked}: name the one that embeds its tokens in "
                "encoder.token_module"
            )
        return found[0]


class HuggingFaceTeacher(nn.Module):
    """A copy of the student that follows it slowly, learns nothing by itself, and always is in evaluation mode."""

    def __init__(self, student: HuggingFaceEncoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(student).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> HuggingFaceTeacher:
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, clips: Shaped[Tensor, "rows *shape"], padding: Bool[Tensor, "rows length"] | None, keep_layers: int
    ) -> HiddenStates:
        """Hidden states of whole clips."""
        return self.encoder(clips, padding, keep_layers=keep_layers)

    def follow(self, student: HuggingFaceEncoder, decay: float) -> None:
        """Move every weight towards the student's: teacher = decay * teacher + (1 - decay) * student."""
        follow(self.encoder, student, decay)
