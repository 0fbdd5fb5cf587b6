"""Front-end for text: a learned vector for every token and for every place (RoBERTa, Liu et al., 2019; data2vec 2.0)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from sslam_lightning.models.front_ends.base import EncoderInput, FrontEnd, FrontEndConfig, padding_behind
from sslam_lightning.models.front_ends.inputs import TextInput
from sslam_lightning.models.initial_weights import init_bert
from sslam_lightning.types import Grid, TextBatch
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass(frozen=True)
class TextConfig(FrontEndConfig):
    """Settings of :class:`TokenEmbeddings`.

    Args:
        vocabulary: number of different tokens.
        max_tokens: the longest text.
        padding_token: which token stands behind a text's end; its vectors are never trained.
        dropout: on the embedded tokens.
    """

    vocabulary: int = 50265
    max_tokens: int = 512
    padding_token: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole_numbers(self, "front_end")
        if self.max_tokens < 1 or not 0 <= self.padding_token < self.vocabulary:
            raise ValueError(
                "expected max_tokens > 0 and a padding_token of the vocabulary, got "
                f"{self.max_tokens}, {self.padding_token} and {self.vocabulary}"
            )

    def build(self, dim: int) -> TokenEmbeddings:
        return TokenEmbeddings(self, dim)


class TokenEmbeddings(FrontEnd):
    """The sum of a token's and its place's vector, normalized."""

    def __init__(self, config: TextConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, dim, config.padding_token)
        # Places are counted from behind the padding token's number, which stands for no place at all: as released.
        self.places = nn.Embedding(config.max_tokens + config.padding_token + 1, dim, config.padding_token)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        init_bert(self)

    @property
    def takes(self) -> TextInput:
        return TextInput(self.config.vocabulary, self.config.max_tokens, self.config.padding_token)

    def grid(self, clips: Int[Tensor, "batch tokens"]) -> Grid:
        """Tokens in one line; ValueError if a text is longer than the table of places."""
        if clips.shape[1] > self.config.max_tokens:
            raise ValueError(f"texts of {clips.shape[1]} tokens are longer than max_tokens = {self.config.max_tokens}")
        return Grid(clips.shape[1], 1)

    def read(self, batch: TextBatch) -> EncoderInput:
        return EncoderInput(batch.tokens, padding_behind(batch.num_tokens, batch.tokens.shape[1], batch.tokens.device))

    def forward(self, clips: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens dim"]:
        written = (clips != self.config.padding_token).long()
        places = written.cumsum(dim=1) * written + self.config.padding_token
        return self.dropout(self.norm(self.tokens(clips) + self.places(places)))
