from __future__ import annotations

import math

import pytest
import torch

from sslam_lightning.layers import sincos_positions


def test_every_value_by_hand() -> None:
    table = sincos_positions(3, 2, 8)
    frequencies = [1.0, 10000**-0.5]
    for time in range(3):
        for mel in range(2):
            expected = [
                *(math.sin(mel * w) for w in frequencies),
                *(math.cos(mel * w) for w in frequencies),
                *(math.sin(time * w) for w in frequencies),
                *(math.cos(time * w) for w in frequencies),
            ]
            torch.testing.assert_close(table[time * 2 + mel], torch.tensor(expected))


def test_first_half_is_the_mel_index_and_second_half_the_time() -> None:
    table = sincos_positions(5, 4, 16).view(5, 4, 16)
    assert (table[..., :8] == table[:1, :, :8]).all()  # the same at all times
    assert (table[..., 8:] == table[:, :1, 8:]).all()  # the same in all bands
    assert table[0, :, :8].unique(dim=0).shape[0] == 4
    assert table[:, 0, 8:].unique(dim=0).shape[0] == 5


def test_a_longer_table_begins_with_the_shorter() -> None:
    short, long = sincos_positions(3, 8, 32), sincos_positions(768, 8, 32)
    assert long.dtype == torch.float32
    assert long.shape == (768 * 8, 32)
    assert (long[:24] == short).all()


def test_width_must_be_a_multiple_of_four() -> None:
    with pytest.raises(ValueError, match=r"multiple of 4 .*, got 18"):
        sincos_positions(2, 2, 18)
