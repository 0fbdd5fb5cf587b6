"""Byte-level BPE tokenizers of Hugging Face ``tokenizers``, trained or read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

# In the order of RoBERTa's vocabulary, which data2vec's released text models have too.
START, PADDING, END, UNKNOWN, MASK = SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> Any:
    """A byte-level BPE (Sennrich et al., 2016; GPT-2's bytes) of at most ``vocabulary`` tokens."""
    tokenizers = _tokenizers()
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocabulary, min_frequency=2, show_progress=False, special_tokens=list(SPECIAL))
    return trained


def read_tokenizer(path: Path) -> Any:
    """A tokenizer whose padding token is the one that the models take for padding.

    Raises:
        FileNotFoundError: no such file.
        ValueError: if it is no tokenizer, or numbers its special tokens in another way.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no tokenizer at {path}: `sslam fit` trains one")
    try:
        tokenizer = _tokenizers().Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"{path} is no tokenizer: {error}") from None
    for number, token in ((SPECIAL.index(PADDING), PADDING), (SPECIAL.index(END), END)):
        if tokenizer.token_to_id(token) != number:
            raise ValueError(f"{path}: {token} must be token {number}, it is {tokenizer.token_to_id(token)}")
    return tokenizer


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("text needs the package tokenizers: pip install 'sslam-lightning[text]'") from None
    return tokenizers
