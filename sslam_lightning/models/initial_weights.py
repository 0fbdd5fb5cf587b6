"""Initial weights: BERT's (Devlin et al., 2019) of all blocks of data2vec 2.0, EAT and MAE-AST; Xavier's of BAT's."""

from __future__ import annotations

from torch import nn

STD = 0.02


def init_bert(module: nn.Module) -> None:
    """Draw every linear layer and embedding in ``module`` from N(0, 0.02); biases and padding vectors become 0."""
    for part in module.modules():
        if not isinstance(part, nn.Linear | nn.Embedding):
            continue
        nn.init.normal_(part.weight, std=STD)
        if isinstance(part, nn.Embedding):
            if part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
        elif part.bias is not None:
            nn.init.zeros_(part.bias)


def init_xavier(module: nn.Module) -> None:
    """Draw every linear layer in ``module`` from the uniform distribution of Glorot and Bengio (2010); biases become 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
