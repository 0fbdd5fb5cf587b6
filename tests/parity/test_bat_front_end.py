"""BAT's mels, and its files called on a waveform (D10)."""

from __future__ import annotations

import pytest
import torch
from bat_cases import assert_close
from reference_data import case_names

import sslam_lightning
from sslam_lightning.features import LogMels
from sslam_lightning.models import Encoder, EncoderConfig

CASES = case_names("bat_front_end*")


def waveforms_of(case: dict, arrays: dict) -> list[torch.Tensor]:
    return [torch.tensor(arrays[f"waveform_{i}"] / 32768.0, dtype=torch.float32) for i in range(len(case["samples"]))]


@pytest.mark.parametrize("name", CASES)
def test_mels_alone_and_in_a_padded_row(name, reference):
    """D10: by itself a clip is scaled over its own frames; in the published training, over its row with the padding."""
    arrays, case = reference.arrays(name), reference.case(name)
    clips = waveforms_of(case, arrays)
    alone = LogMels(num_frames=case["time_frame_size"], kind="decibel")
    lengths = torch.tensor([len(clip) for clip in clips])
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    batched = alone(padded, lengths)
    for i, clip in enumerate(clips):
        mels = alone(clip[None], lengths[i : i + 1])[0]
        assert_close(mels[::2, ::4], arrays[f"mels_alone_{i}"])
        assert mels.mean().item() == pytest.approx(case["mean"][i], rel=1e-4)
        frames = alone.count_frames(len(clip))
        assert frames == case["real_frames"][i]
        assert mels[:frames].mean().item() == pytest.approx(case["mean_of_real_frames"][i], rel=1e-4)
        torch.testing.assert_close(batched[i], mels, atol=1e-5, rtol=0)  # whatever it is batched with
    rows = LogMels(num_frames=case["time_frame_size"], kind="decibel", extremes="padded_row")(padded, lengths)
    for i in range(len(clips)):
        key = f"mels_together_{i}" if f"mels_together_{i}" in arrays else f"mels_alone_{i}"
        assert_close(rows[i, ::2, ::4], arrays[key])


def bat_file(encoder: Encoder, path, frames: int, **arguments) -> None:
    """As the public trainer writes it."""
    state = encoder.state_dict()
    theirs = {"cls_token": "cls_token", "front_end.proj": "patch_embed.proj", "input_norm": "pre_norm"}
    public = {}
    for name, value in state.items():
        start = next((start for start in theirs if name.startswith(start)), "")
        public[theirs.get(start, "") + name.removeprefix(start)] = value
    positions = encoder.front_end._positions(torch.zeros(1, 8 * encoder.config.max_time_patches, encoder.dim))
    public["pos_embed"] = positions[None].clone()
    args = {"dim": encoder.dim, "num_heads": 2, "time_frame_size": frames, "compile": True, **arguments}
    torch.save({"encoder": public, "ema_encoder": public, "optimized_steps": 3, "args": args}, path)


@pytest.mark.parametrize("name", CASES)
def test_a_file_called_on_a_waveform_sees_the_public_mels(name, reference, tmp_path):
    """D10: loaded and called, padded to the trained length, and alone."""
    arrays, case = reference.arrays(name), reference.case(name)
    frames = case["time_frame_size"]
    torch.manual_seed(0)
    config = EncoderConfig(dim=16, depth=2, num_heads=2, gated_attention=True, max_time_patches=frames // 16)
    encoder = Encoder(config).eval()
    bat_file(encoder, tmp_path / "bat.pt", frames)
    trained = sslam_lightning.from_pretrained(tmp_path / "bat.pt", padding="trained")
    alone = sslam_lightning.from_pretrained(tmp_path / "bat.pt", part="teacher")
    for i, clip in enumerate(waveforms_of(case, arrays)):
        with torch.no_grad():
            mels = trained.features(clip[None], torch.tensor([len(clip)]))
            assert_close(mels[0, ::2, ::4], arrays[f"mels_alone_{i}"])
            wanted = encoder(mels)
            columns = -(-case["real_frames"][i] // 16)
            own = encoder(mels[:, : columns * 16])
        found = trained(clip, case["sample_rate_hz"])
        assert_close(found.clip, wanted.cls[0])
        assert_close(found.patches.flatten(0, 1), wanted.tokens[0, : found.patches.shape[0] * 8])
        found = alone(clip, case["sample_rate_hz"])
        assert_close(found.clip, own.cls[0])
        assert_close(found.patches.flatten(0, 1), own.tokens[0])
