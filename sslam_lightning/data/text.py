"""Text files as pieces of a fixed number of tokens, for data2vec 2.0 on text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.dataset import BrokenClip, ClipDataset, Key
from sslam_lightning.data.files import find_files
from sslam_lightning.data.loader import ClipLoader
from sslam_lightning.data.module import AudioDataModule, Split
from sslam_lightning.data.sampler import EpochSampler
from sslam_lightning.data.tokenizer import END, PADDING, SPECIAL, read_tokenizer, train_tokenizer
from sslam_lightning.types import TextBatch


class Passage(NamedTuple):
    """One piece of text as tokens."""

    tokens: Int[Tensor, "tokens"]
    labels: Float[Tensor, "classes"]
    clip_index: int
    name: str


class TextDataset(ClipDataset):
    """All texts one after the other, an end token behind each, in pieces of ``max_tokens``.

    The last piece reaches back into the one before it, so that it is as long: of a batch's texts the shortest says how
    many tokens the masks of all of them hide.
    """

    def __init__(self, texts: Iterator[str], tokenizer: Any, max_tokens: int) -> None:
        end = tokenizer.token_to_id(END)
        encoded = [torch.tensor([*tokenizer.encode(text).ids, end], dtype=torch.int32, device="cpu") for text in texts]
        self.tokens = torch.cat(encoded)  # in memory: 4 bytes a token, 13 GB for English Wikipedia and books
        self.max_tokens = max_tokens

    def __len__(self) -> int:
        return -(-len(self.tokens) // self.max_tokens)

    def name(self, index: int) -> str:
        """What messages call a piece."""
        return f"tokens from {index * self.max_tokens}"

    def __getitem__(self, key: Key) -> Passage:  # type: ignore[override]
        """The piece of ``index``, or of ``(epoch, index)``; it is the same in every epoch."""
        index = key if isinstance(key, int) else key[1]
        start = max(0, min(index * self.max_tokens, len(self.tokens) - self.max_tokens))
        return Passage(
            self.tokens[start : start + self.max_tokens].long(),
            torch.zeros(0, dtype=torch.float32, device="cpu"),
            index,
            self.name(index),
        )


class TextDataModule(AudioDataModule):
    """All text files below a folder, without labels. The loaders are those of the audio data modules.

    Args:
        root: folder of the training texts; sub-folders are searched too.
        tokenizer: a ``tokenizer.json`` of Hugging Face ``tokenizers``. If there is none yet, a byte-level BPE is trained
            on the training texts and written there.
        val_root: folder of the validation texts; None: no validation.
        extensions: which files are text.
        vocabulary: number of tokens of a tokenizer that is trained.
        max_tokens: length of a piece.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such folder, or no text in it (at setup).
        ImportError: the package ``tokenizers`` is missing.
        ValueError: a setting out of its range, or a file that is no tokenizer.
    """

    def __init__(
        self,
        root: str | Path,
        tokenizer: str | Path,
        val_root: str | Path | None = None,
        extensions: tuple[str, ...] = (".txt", ".md"),
        vocabulary: int = 50265,
        max_tokens: int = 512,
        **options: Any,
    ) -> None:
        super().__init__(class_names=(), multi_label=True, **options)
        if vocabulary < 256 + len(SPECIAL) or max_tokens < 2:
            raise ValueError(
                f"vocabulary must hold {256 + len(SPECIAL)} tokens (bytes and special ones) and a piece 2, "
                f"got {vocabulary} and {max_tokens}"
            )
        self.folders: dict[Split, str | Path | None] = {"train": root, "val": val_root, "test": val_root}
        self.tokenizer, self.extensions = Path(tokenizer), extensions
        self.vocabulary, self.max_tokens = vocabulary, max_tokens

    def prepare_data(self) -> None:
        """Train the tokenizer where there is none yet; one process does it for all."""
        root = self.folders["train"]
        if self.tokenizer.exists() or root is None:
            return
        trained = train_tokenizer(self._texts(root), self.vocabulary)
        self.tokenizer.parent.mkdir(parents=True, exist_ok=True)
        trained.save(str(self.tokenizer))

    def read_ahead(self, stage: str) -> None:
        """Only the files' names: their contents need the tokenizer."""
        for folder in self.folders.values():
            if folder is not None:
                find_files(folder, self.extensions)

    def make_dataset(self, split: Split) -> TextDataset | None:
        """Read and tokenise the texts of a split."""
        folder = self.folders[split]
        if folder is None:
            return None
        tokenizer = read_tokenizer(self.tokenizer)
        self.vocabulary = tokenizer.get_vocab_size()
        return TextDataset(self._texts(folder), tokenizer, self.max_tokens)

    def _texts(self, folder: str | Path) -> Iterator[str]:
        names = find_files(folder, self.extensions)
        return (Path(folder, name).read_text(encoding="utf-8", errors="replace") for name in names)

    def _loader(self, dataset: ClipDataset, sampler: EpochSampler) -> ClipLoader:
        loader = super()._loader(dataset, sampler)
        loader.collate_fn = collate_texts
        return loader


def collate_texts(passages: Sequence[Passage | BrokenClip]) -> TextBatch:
    """Pieces as a batch, filled up with the padding token."""
    good = [passage for passage in passages if isinstance(passage, Passage)]
    tokens = [passage.tokens for passage in good]
    padding = float(SPECIAL.index(PADDING))
    return TextBatch(
        torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=padding),
        [len(piece) for piece in tokens],
        torch.stack([passage.labels for passage in good]),
        torch.tensor([passage.clip_index for passage in good], device="cpu"),
        tuple(passage.name for passage in good),
    )
