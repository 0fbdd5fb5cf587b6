"""Encoders of images and of text: one image or text a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.audio.read import UnreadableAudio
from sslam_lightning.data.image_file import cropped, open_image
from sslam_lightning.data.tokenizer import END, read_tokenizer
from sslam_lightning.inference.encoding import EncoderModel, Level, Read
from sslam_lightning.inference.windowing import Framing, Window, Windows
from sslam_lightning.models import ClipEncoder, ImageInput, TextInput
from sslam_lightning.models.front_ends.base import padding_behind
from sslam_lightning.whole_numbers import check_at_least

_IMAGE_SIZE = 224


class ImageModel(EncoderModel):
    """Images in. Rows of patches stand for frames, columns for mels.

    Args:
        encoder: reads images.
        size: side in pixels of the largest square in the middle of an image, as the encoder sees it; None: the only
            one that it takes, or 224.
        options: those of :class:`EncoderModel`.

    Raises:
        ValueError: if ``size`` is not a whole number of patches.
    """

    kind = "an image"
    levels: tuple[Level, ...] = ("clip", "patch")

    def __init__(self, encoder: ClipEncoder, size: int | None = None, **options: Any) -> None:
        super().__init__(encoder, **options)
        takes = encoder.front_end.takes
        assert isinstance(takes, ImageInput), "images are what this front-end reads"
        size = takes.size or _IMAGE_SIZE if size is None else size
        check_at_least(1, image_size=size)
        encoder.front_end.grid(torch.empty(1, takes.channels, size, size, device="cpu"))
        self.size = size

    def read_windows(self, path: Path, windows: Windows) -> Iterator[Window]:
        try:
            image = open_image(path)
        except OSError as error:
            raise UnreadableAudio(f"{path}: {error}") from None
        yield Window(0, cropped(image, self.size)[None], 0)

    def read(self, content: Float[Tensor, "rows channels high wide"], lengths: Int[Tensor, "rows"]) -> Read:
        num_frames = torch.full((len(content),), self.encoder.front_end.grid(content).time, device="cpu")
        return Read(content, num_frames, masks_padding=False)

    def settings(self) -> dict[str, Any]:
        return {"image_size": self.size}


class TextModel(EncoderModel):
    """Texts in, in pieces of what the encoder takes at most, each of which shares a quarter with the next.

    Args:
        encoder: reads text.
        tokenizer: the ``tokenizer.json`` that the encoder was trained with.
        options: those of :class:`EncoderModel`.

    Raises:
        FileNotFoundError, ValueError: if it is no such tokenizer, or has more tokens than the encoder.
    """

    kind = "a text"
    levels: tuple[Level, ...] = ("clip", "patch")
    framing = Framing(1, 1, 1, 1)

    def __init__(self, encoder: ClipEncoder, tokenizer: str | Path, **options: Any) -> None:
        super().__init__(encoder, **options)
        takes = encoder.front_end.takes
        assert isinstance(takes, TextInput), "text is what this front-end reads"
        self.takes = takes
        self.tokenizer = read_tokenizer(Path(tokenizer))
        if (num_tokens := self.tokenizer.get_vocab_size()) > takes.vocabulary:
            raise ValueError(f"{tokenizer} has {num_tokens} tokens, the encoder knows {takes.vocabulary}")

    def read_windows(self, path: Path, windows: Windows) -> Iterator[Window]:
        """The text with an end token behind it."""
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UnreadableAudio(f"{path}: {error.strerror}") from None
        tokens = torch.tensor([[*self.tokenizer.encode(text).ids, self.tokenizer.token_to_id(END)]], device="cpu")
        return windows.cut(iter([tokens]), self.framing)

    def read(self, content: Int[Tensor, "rows tokens"], lengths: Int[Tensor, "rows"]) -> Read:
        behind = padding_behind(lengths, content.shape[1], content.device)
        clips = content if behind is None else content.masked_fill(behind, self.takes.padding_token)
        return Read(clips, lengths, masks_padding=True)

    def windows(self, window_seconds: float | None = None, overlap_seconds: float | None = None) -> Windows:
        """What the encoder takes at most, in tokens."""
        super().windows(window_seconds, overlap_seconds)
        return Windows(self.takes.max_tokens, self.takes.max_tokens // 4)

    def settings(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.to_str()}
