"""The public data pipeline on real clips: resample, log-mels, pad or cut, normalize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import soundfile
import torch
from reference_data import case_names
from torchaudio.functional import resample

from sslam_lightning.features import LogMels

if TYPE_CHECKING:
    from conftest import Reference

CASES = case_names("fbank*")
RECIPES = {  # name in the case -> front-end and step between the mels that the case keeps
    "audioset": (LogMels(num_frames=1024, mean=-4.268, std=4.569), 1),
    "esc50": (LogMels(num_frames=512, mean=-6.627, std=5.359), 4),
    "speechcommands2": (LogMels(num_frames=128, mean=-6.846, std=5.565), 4),
}


def read_clip(reference: Reference, name: str) -> torch.Tensor:
    """A clip as the public pipeline reads it: channels averaged, resampled to 16 kHz with torchaudio's default."""
    samples, sample_rate_hz = soundfile.read(reference.file(f"audio/{name}"), dtype="float32", always_2d=True)
    return resample(torch.from_numpy(samples).mean(dim=1), sample_rate_hz, 16000)


def expected_spectrograms(reference: Reference, case: str, recipe: str) -> dict[str, torch.Tensor]:
    """The recorded spectrograms of a recipe by the names of their clips."""
    arrays = reference.arrays(case)
    return {key.split("/", 1)[1]: torch.from_numpy(x) for key, x in arrays.items() if key.startswith(f"{recipe}/")}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("case", CASES)
def test_spectrograms_of_the_public_pipeline(reference: Reference, case: str, recipe: str) -> None:
    log_mels, mel_step = RECIPES[recipe]
    expected = expected_spectrograms(reference, case, recipe)
    assert len(expected) > 0
    for name, spectrogram in expected.items():
        waveform = read_clip(reference, name)
        ours = log_mels(waveform[None], torch.tensor([len(waveform)]))[0, :, ::mel_step]
        # Other versions of torch and of the resampler round differently; quiet bands amplify that.
        torch.testing.assert_close(ours, spectrogram, atol=1e-3, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_the_batch_gives_what_single_clips_give(reference: Reference, case: str) -> None:
    log_mels, _ = RECIPES["audioset"]
    clips = [read_clip(reference, name) for name in expected_spectrograms(reference, case, "audioset")]
    assert len(clips) > 1
    num_samples = torch.tensor([len(clip) for clip in clips])
    together = log_mels(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), num_samples)
    alone = torch.cat([log_mels(clip[None], torch.tensor([len(clip)])) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
