"""The yardstick of ``sslam benchmark data`` computes what the public pipeline computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from test_fbank import CASES, RECIPES, expected_spectrograms

from sslam_lightning.benchmarks.public_pipeline import log_mels_of_clip, masks_of_clip, read_clip, resample_clip
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.types import Grid

if TYPE_CHECKING:
    from conftest import Reference


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("case", CASES)
def test_its_features_are_those_of_the_fbank_case(reference: Reference, case: str, recipe: str) -> None:
    front_end, mel_step = RECIPES[recipe]
    expected = expected_spectrograms(reference, case, recipe)
    assert len(expected) > 0
    for name, spectrogram in expected.items():
        waveform = resample_clip(*read_clip(str(reference.file(f"audio/{name}"))))
        features = log_mels_of_clip(waveform, front_end.num_frames, front_end.mean, front_end.std)
        # Other versions of torch and of the resampler round differently; quiet bands amplify that.
        torch.testing.assert_close(features[:, ::mel_step], spectrogram, atol=1e-3, rtol=0)


def test_its_masks_hide_as_many_patches_in_blocks_as_ours() -> None:
    grid = Grid(64, 8)
    hidden = masks_of_clip(grid, 200, np.random.default_rng(0))
    ours = InverseBlockMask().hidden(torch.arange(200), grid)
    assert hidden.sum(dim=1).eq(512 - 102).all()
    assert ours.sum(dim=1).eq(512 - 102).all()

    def neighbors(mask: torch.Tensor) -> float:
        """Share of visible patches whose next one in time is visible too: 0.2 were they not in blocks."""
        visible = ~mask.view(-1, 64, 8)
        return float((visible[:, 1:] & visible[:, :-1]).sum() / visible[:, 1:].sum())

    assert neighbors(hidden) == pytest.approx(neighbors(ours), abs=0.05)
    assert neighbors(hidden) > 0.6
