"""A model of Hugging Face transformers as it is, and what is known of it: what it reads, and where its tokens are made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from sslam_lightning.models.front_ends.inputs import ImageInput, Input, LogMelInput, TextInput, WaveformInput
from sslam_lightning.models.transformers.reader import HuggingFaceReader
from sslam_lightning.models.transformers.settings import (
    make_config,
    make_model,
    plain_settings,
    read_settings,
    transformers_library,
)

# Where the usual models turn input into tokens, before positions are added: text, images and spectrograms, waveforms.
_TOKEN_MODULES = ("embeddings.word_embeddings", "embeddings.patch_embeddings", "feature_projection")
_IDLE = ("pooler", "masked_spec_embed", "mask_token")  # take no part in hidden states; DDP wants to know that beforehand


@dataclass(frozen=True)
class HuggingFaceConfig:
    """Which model of transformers, told offline: nothing is downloaded, and no code that comes with a model is run.

    Args:
        model: a folder with a ``config.json``, or a model type of transformers: ``roberta``, ``beit``, ``wav2vec2``,
            ``audio-spectrogram-transformer`` ...
        settings: replace those of the folder, or the defaults of the type. With a ``model_type`` among them they are a
            whole configuration, as a checkpoint keeps it, and no folder is looked for.
        token_module: the part of the model whose output is one vector a token, before positions are added; None finds the
            usual ones.
        normalize_waveforms: bring every clip to mean 0 and variance 1 over its own samples, as the ``do_normalize`` of a
            folder's ``preprocessor_config.json`` says.
        cls_pooling: the mean of the special tokens in front, not that of the clip's own, stands for the clip; for
            spectrograms alone.
    """

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    token_module: str | None = None
    normalize_waveforms: bool = True
    cls_pooling: bool = False

    def resolve(self) -> Any:
        """The configuration of transformers.

        Raises:
            ImportError: transformers is missing.
            ValueError: if there is no such model, it has no such setting, or one asks for code from elsewhere.
        """
        try:
            if "model_type" in self.settings:
                return make_config(plain_settings(self.settings))
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


class HuggingFaceModel(nn.Module):
    """The model, in ``model``, and what is known of it.

    ``apply_spec_augment`` and ``layerdrop``, which some models have, are off, also in the saved configuration.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__()
        resolved = config.resolve()
        # A mask of its own on top of ours; blocks that sit a step out, which DDP does not take.
        for name, off in (("apply_spec_augment", False), ("layerdrop", 0.0)):
            if hasattr(resolved, name):
                setattr(resolved, name, off)
        self.model = freeze_idle(make_model(resolved))
        self.dim = int(resolved.hidden_size)
        self.depth = int(resolved.num_hidden_layers)
        self.token_module = self._find_token_module(config.token_module)
        self.front_end = HuggingFaceReader(self.takes, self.convolution, config.normalize_waveforms)
        self.masks_padding = "attention_mask" in inspect.signature(self.model.forward).parameters

    @property
    def convolution(self) -> nn.Conv2d | None:
        """What cuts patches: rows by columns of images, mels by time of spectrograms."""
        cut = getattr(self.model.get_submodule(self.token_module), "projection", None)
        return cut if isinstance(cut, nn.Conv2d) else None

    @property
    def takes(self) -> Input | None:
        """What the model reads, by its ``main_input_name`` and its settings: text, images, log-mels or waveforms."""
        settings, cut = self.model.config, self.convolution
        if self.model.main_input_name == "input_ids":
            positions = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
            first = getattr(positions, "padding_idx", None)  # RoBERTa counts from behind its padding token
            longest = int(getattr(settings, "max_position_embeddings", 512)) - (0 if first is None else first + 1)
            padding = getattr(settings, "pad_token_id", None) or 0
            return TextInput(int(settings.vocab_size), longest, padding, "encoder.settings.vocab_size")
        if self.model.main_input_name == "pixel_values":
            size = getattr(settings, "image_size", None)
            size = size[0] if isinstance(size, (list, tuple)) and len({*size}) == 1 else size
            return ImageInput(int(getattr(settings, "num_channels", 3)), size if isinstance(size, int) else None)
        if cut is not None and hasattr(settings, "num_mel_bins"):
            frames = getattr(settings, "max_length", None)
            return LogMelInput(settings.num_mel_bins, int(cut.kernel_size[1]), int(cut.stride[1]), frames)
        if getattr(settings, "conv_kernel", ()):
            return WaveformInput(tuple(zip(settings.conv_kernel, settings.conv_stride, strict=True)))
        return None

    def blocks(self) -> Sequence[nn.Module]:
        """The model's blocks: of its stacks the last one as long as the model is deep, or the longest."""
        return list(self.model.get_submodule(self.stack))

    @property
    def stack(self) -> str:
        """The name of the stack of blocks in the model."""
        stacks = {name: len(part) for name, part in self.model.named_modules() if isinstance(part, nn.ModuleList)}
        as_deep = [name for name, length in stacks.items() if length == self.depth]
        return as_deep[-1] if as_deep else max(stacks, key=lambda name: stacks[name])

    def whole_config(self) -> dict[str, Any]:
        """The model's configuration as plain data, wherever it came from."""
        return json.loads(self.model.config.to_json_string(use_diff=False))

    @property
    def num_special(self) -> int:
        """Tokens that the model puts in front of a spectrogram's own."""
        names = ("cls_token", "distillation_token")
        return sum(getattr(getattr(self.model, "embeddings", None), name, None) is not None for name in names)

    def inputs(self, clips: Shaped[Tensor, "rows *shape"], padding: Bool[Tensor, "rows tokens"] | None) -> dict[str, Any]:
        """Arguments of the model: the clips, and an attention mask (of samples, else of its tokens) if it takes one."""
        inputs = {self.model.main_input_name: clips}
        if padding is None or not self.masks_padding:
            return inputs
        if isinstance(self.front_end.takes, WaveformInput):
            ends = self.front_end.num_samples((~padding).sum(dim=1, keepdim=True))
            return {**inputs, "attention_mask": (torch.arange(clips.shape[1], device=clips.device) < ends).long()}
        if self.front_end.by_mel:
            padding = padding.unflatten(1, self.front_end.grid(clips)).transpose(1, 2).flatten(1)
        return {**inputs, "attention_mask": nn.functional.pad((~padding).long(), (self.num_special, 0), value=1)}

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


def freeze_idle(model: Any) -> Any:
    """The model, what takes no part in its hidden states learning nothing."""
    for name, parameter in model.named_parameters():
        if any(part in _IDLE for part in name.split(".")):
            parameter.requires_grad_(False)
    return model
