"""torch's default type, which decides what the weights of a new module are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Make new modules float32, whatever ``torch.set_default_dtype`` says outside; also a decorator.

    For modules that take weights over from a file, or are trained and thrown away: their results are to depend on nothing
    else. Tensors name their type themselves.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
