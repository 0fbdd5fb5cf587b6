"""Texts as tokens: a folder cut into pieces of one length for pre-training, or texts with a label each for fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sslam_lightning.data.files import class_folders, classes_of, find_files
from sslam_lightning.data.loading.dataset import BrokenClip, ClipDataset, Key
from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.data.tokenizer import END, PADDING, SPECIAL, read_tokenizer, train_tokenizer
from sslam_lightning.types import TextBatch


class Passage(NamedTuple):
    """One piece of text as tokens."""

    tokens: Int[Tensor, "tokens"]
    labels: Float[Tensor, "classes"]
    clip_index: int
    name: str


class LabeledTexts(NamedTuple):
    """Texts, their labels, and their names in messages."""

    texts: list[str]
    labels: list[str]
    names: list[str]


class TextDataset(ClipDataset):
    """Pieces of tokenized texts; the same in every epoch.

    Args:
        tokens: of all texts, one after the other. They stay in memory: 4 bytes each, 13 GB for English Wikipedia and books.
        start, stop: of every piece among the tokens.
        labels: of every piece.
        names: of every piece, for messages; None: its place.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "tokens"],
        start: Int[np.ndarray, "pieces"],
        stop: Int[np.ndarray, "pieces"],
        labels: Float[Tensor, "pieces classes"],
        names: Sequence[str] | None = None,
    ) -> None:
        self.tokens, self.start, self.stop, self.labels, self.names = tokens, start, stop, labels, names

    @classmethod
    def of_pieces(cls, texts: Iterable[str], tokenizer: Any, max_tokens: int) -> TextDataset:
        """All texts, each followed by an end token, cut into pieces of ``max_tokens``.

        The last piece reaches back into the one before it, so that it is as long: the shortest text of a batch decides how
        many tokens the masks of all of them hide.
        """
        end = tokenizer.token_to_id(END)
        tokens = torch.cat([_int32([*tokenizer.encode(text).ids, end]) for text in texts])
        start = np.arange(0, len(tokens), max_tokens)
        start[-1] = max(0, len(tokens) - max_tokens)
        return cls(tokens, start, start + max_tokens, torch.zeros(len(start), 0, dtype=torch.float32, device="cpu"))

    @classmethod
    def of_labeled(cls, rows: LabeledTexts, class_names: Sequence[str], tokenizer: Any, max_tokens: int) -> TextDataset:
        """At most ``max_tokens`` of every text, the last of them an end token."""
        end, class_of = tokenizer.token_to_id(END), {name: number for number, name in enumerate(class_names)}
        if unknown := next((label for label in rows.labels if label not in class_of), None):
            raise ValueError(f"the label {unknown} does not come in the training texts ({', '.join(class_names[:10])})")
        pieces = [[*tokens.ids[: max_tokens - 1], end] for tokens in tokenizer.encode_batch(rows.texts)]
        stop = np.cumsum([len(piece) for piece in pieces])
        one_hot = torch.eye(len(class_names), dtype=torch.float32, device="cpu")
        labels = one_hot[[class_of[label] for label in rows.labels]]
        return cls(_int32(list(chain.from_iterable(pieces))), np.append(0, stop[:-1]), stop, labels, rows.names)

    def __len__(self) -> int:
        return len(self.start)

    def name(self, index: int) -> str:
        return f"tokens from {self.start[index]}" if self.names is None else self.names[index]

    def __getitem__(self, key: Key) -> Passage:  # type: ignore[override]
        index = key if isinstance(key, int) else key[1]
        tokens = self.tokens[self.start[index] : self.stop[index]].long()
        return Passage(tokens, self.labels[index], index, self.name(index))


class TextDataModule(AudioDataModule):
    """Texts without labels, cut into pieces of one length, or with a label each, from their start.

    Args:
        root: folder of the training texts; sub-folders are searched too. With ``labeled`` a folder of texts per class in
            it, or a file of ``label<TAB>text`` lines.
        tokenizer: a ``tokenizer.json`` of Hugging Face ``tokenizers``, that of the pre-trained model with ``labeled``. If
            there is none yet, a byte-level BPE is trained on unlabeled training texts and written there.
        val_root: the same for validation; None: no validation.
        extensions: which files of a folder are text.
        vocabulary: number of tokens of a tokenizer that is trained.
        max_tokens: length of a piece; longer labeled texts are cut.
        labeled: whether every text is of exactly one class.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such file or folder, or no text in it (at setup where there are no labels).
        ValueError: a setting out of its range, a line without a label, a label that training does not have, or a file that
            is no tokenizer.
    """

    def __init__(
        self,
        root: str | Path,
        tokenizer: str | Path,
        val_root: str | Path | None = None,
        extensions: tuple[str, ...] = (".txt", ".md"),
        vocabulary: int = 50265,
        max_tokens: int = 512,
        labeled: bool = False,
        **options: Any,
    ) -> None:
        class_names = sorted({*read_labeled(Path(root), extensions).labels}) if labeled else ()
        super().__init__(class_names=class_names, multi_label=not labeled, **options)
        if vocabulary < 256 + len(SPECIAL) or max_tokens < 2:
            raise ValueError(
                f"vocabulary must hold {256 + len(SPECIAL)} tokens (bytes and special ones) and a piece 2, "
                f"got {vocabulary} and {max_tokens}"
            )
        self.sources: dict[Split, str | Path | None] = {"train": root, "val": val_root, "test": val_root}
        self.tokenizer, self.extensions, self.labeled = Path(tokenizer), extensions, labeled
        self.vocabulary, self.max_tokens = vocabulary, max_tokens
        if labeled:
            self.vocabulary = read_tokenizer(self.tokenizer).get_vocab_size()

    def prepare_data(self) -> None:
        """Train the tokenizer where there is none yet; one process does it for all."""
        root = self.sources["train"]
        if not self.tokenizer.exists() and root is not None:
            trained = train_tokenizer(_read_files(Path(root), find_files(root, self.extensions)), self.vocabulary)
            self.tokenizer.parent.mkdir(parents=True, exist_ok=True)
            trained.save(str(self.tokenizer))

    def read_ahead(self, stage: str) -> None:
        if self.labeled:
            super().read_ahead(stage)
            return
        for folder in self.sources.values():
            if folder is not None:
                find_files(folder, self.extensions)  # their contents need the tokenizer

    def make_dataset(self, split: Split) -> TextDataset | None:
        source = self.sources[split]
        if source is None:
            return None
        tokenizer = read_tokenizer(self.tokenizer)
        self.vocabulary = tokenizer.get_vocab_size()
        if self.labeled:
            rows = read_labeled(Path(source), self.extensions)
            return TextDataset.of_labeled(rows, self.class_names, tokenizer, self.max_tokens)
        texts = _read_files(Path(source), find_files(source, self.extensions))
        return TextDataset.of_pieces(texts, tokenizer, self.max_tokens)

    def collate_function(self) -> Callable[..., TextBatch]:
        return collate_texts


def collate_texts(passages: Sequence[Passage | BrokenClip]) -> TextBatch:
    """Pieces as a batch, filled up with the padding token."""
    good = [passage for passage in passages if isinstance(passage, Passage)]
    return TextBatch(
        pad_sequence([piece.tokens for piece in good], batch_first=True, padding_value=float(SPECIAL.index(PADDING))),
        [len(piece.tokens) for piece in good],
        torch.stack([piece.labels for piece in good]),
        torch.tensor([piece.clip_index for piece in good], device="cpu"),
        tuple(piece.name for piece in good),
    )


def read_labeled(source: Path, extensions: Sequence[str]) -> LabeledTexts:
    """Read the texts of a table or of folders; raises as `TextDataModule`."""
    if source.is_dir():
        names, class_names = find_files(source, extensions), class_folders(source)
        labels = [class_names[number] for number in classes_of(source, names, class_names)]
        return LabeledTexts(list(_read_files(source, names)), labels, names)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file or folder {source}")
    rows = LabeledTexts([], [], [])
    # Only a line feed ends a line: texts may hold form feeds, U+2028 and other characters that Python splits lines at.
    lines = source.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    for line, written in enumerate((text.strip("\r") for text in lines), start=1):
        if not written.strip():
            continue
        label, _, text = written.partition("\t")
        if not label.strip() or not text.strip():
            raise ValueError(f"{source}, line {line}: expected 'label<TAB>text', got {written[:80]!r}")
        for column, value in zip(rows, (text, label.strip(), f"{source.name}, line {line}"), strict=True):
            column.append(value)
    if not rows.texts:
        raise ValueError(f"{source}: no texts")
    return rows


def _read_files(folder: Path, names: Iterable[str]) -> Iterator[str]:
    return ((folder / name).read_text(encoding="utf-8", errors="replace") for name in names)


def _int32(numbers: list[int]) -> Int[Tensor, "tokens"]:
    return torch.tensor(numbers, dtype=torch.int32, device="cpu")
