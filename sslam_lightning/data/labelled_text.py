"""Texts with a label each, for fine-tuning: lines of a table, or files in a folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sslam_lightning.data.dataset import ClipDataset, Key
from sslam_lightning.data.files import class_folders, classes_of, find_files
from sslam_lightning.data.loader import ClipLoader
from sslam_lightning.data.module import AudioDataModule, Split
from sslam_lightning.data.sampler import EpochSampler
from sslam_lightning.data.text import Passage, collate_texts
from sslam_lightning.data.tokenizer import END, read_tokenizer


class LabelledTexts(NamedTuple):
    """Texts, their labels, and what messages call them."""

    texts: list[str]
    labels: list[str]
    names: list[str]


class LabelledTextDataset(ClipDataset):
    """Every text from its start, at most ``max_tokens`` of it, an end token behind it."""

    def __init__(self, found: LabelledTexts, class_names: Sequence[str], tokenizer: Any, max_tokens: int) -> None:
        end, number = tokenizer.token_to_id(END), {name: place for place, name in enumerate(class_names)}
        if unknown := next((label for label in found.labels if label not in number), None):
            raise ValueError(f"the label {unknown} does not come in the training texts ({', '.join(class_names[:10])})")
        self.tokens = [[*tokens.ids[: max_tokens - 1], end] for tokens in tokenizer.encode_batch(found.texts)]
        one_hot = torch.eye(len(class_names), dtype=torch.float32, device="cpu")
        self.labels = one_hot[[number[label] for label in found.labels]]
        self.names = found.names

    def __len__(self) -> int:
        return len(self.tokens)

    def name(self, index: int) -> str:
        """The file, or the line of the table."""
        return self.names[index]

    def __getitem__(self, key: Key) -> Passage:  # type: ignore[override]
        """The text of ``index``, or of ``(epoch, index)``; it is the same in every epoch."""
        index = key if isinstance(key, int) else key[1]
        return Passage(torch.tensor(self.tokens[index], device="cpu"), self.labels[index], index, self.names[index])


class LabelledTextDataModule(AudioDataModule):
    """Texts of exactly one class each. The loaders are those of the audio data modules.

    Args:
        train: a file of ``label<TAB>text`` lines, or a folder with a folder of texts per class.
        tokenizer: the ``tokenizer.json`` of the pre-trained model.
        val: the same for validation; None: no validation.
        extensions: which files of a folder are text.
        max_tokens: texts are cut behind this many.
        options: settings of `AudioDataModule`.

    Raises:
        FileNotFoundError: no such file or folder, or no text in it.
        ImportError: the package ``tokenizers`` is missing.
        ValueError: a line without a label, a label that training does not have, or a file that is no tokenizer.
    """

    def __init__(
        self,
        train: str | Path,
        tokenizer: str | Path,
        val: str | Path | None = None,
        extensions: tuple[str, ...] = (".txt", ".md"),
        max_tokens: int = 512,
        **options: Any,
    ) -> None:
        self.extensions, self.max_tokens = extensions, max_tokens
        super().__init__(class_names=sorted({*read_labelled(Path(train), extensions).labels}), multi_label=False, **options)
        self.sources: dict[Split, str | Path | None] = {"train": train, "val": val, "test": val}
        self._tokenizer = read_tokenizer(Path(tokenizer))
        self.vocabulary = self._tokenizer.get_vocab_size()

    def make_dataset(self, split: Split) -> LabelledTextDataset | None:
        """Read and tokenise the texts of a split."""
        source = self.sources[split]
        if source is None:
            return None
        found = read_labelled(Path(source), self.extensions)
        return LabelledTextDataset(found, self.class_names, self._tokenizer, self.max_tokens)

    def _loader(self, dataset: ClipDataset, sampler: EpochSampler) -> ClipLoader:
        loader = super()._loader(dataset, sampler)
        loader.collate_fn = collate_texts
        return loader


def read_labelled(source: Path, extensions: Sequence[str]) -> LabelledTexts:
    """The texts of a table or of folders.

    Raises:
        FileNotFoundError: no such file or folder, or no text in it.
        ValueError: a line without a label and a text, or a file in no folder of a class.
    """
    if source.is_dir():
        names, class_names = find_files(source, extensions), class_folders(source)
        labels = [class_names[place] for place in classes_of(source, names, class_names)]
        texts = [(source / name).read_text(encoding="utf-8", errors="replace") for name in names]
        return LabelledTexts(texts, labels, names)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file or folder {source}")
    found = LabelledTexts([], [], [])
    # Only a line feed ends a line: texts may hold form feeds, U+2028 and what else Python splits lines at.
    lines = source.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    for line, written in enumerate((text.strip("\r") for text in lines), start=1):
        if not written.strip():
            continue
        label, tab, text = written.partition("\t")
        if not tab or not label.strip() or not text.strip():
            raise ValueError(f"{source}, line {line}: expected 'label<TAB>text', got {written[:80]!r}")
        for column, value in zip(found, (text, label.strip(), f"{source.name}, line {line}"), strict=True):
            column.append(value)
    if not found.texts:
        raise ValueError(f"{source}: no texts")
    return found
