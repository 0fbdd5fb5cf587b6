"""A picture of a recording: its spectrogram, and below it when which class is heard."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.stream import stream_audio
from sslam_lightning.features import LogMels, kaldi_fbank
from sslam_lightning.features.fbank import hop_samples, window_samples
from sslam_lightning.inference.model import AudioModel
from sslam_lightning.inference.sources import legible
from sslam_lightning.inference.tagging.tag import Tagged
from sslam_lightning.runtime.atomic_write import replacing

_COLUMNS = 2000  # more than a picture shows
_DECIBELS_PER_NEPER = 10 / math.log(10)
_TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000)


def draw_timeline(tagged: Tagged, path: Path, model: AudioModel, target: Path, top: int = 5) -> None:
    """Write a PNG.

    Args:
        tagged: what was heard.
        path: the recording, which is read once more, by blocks.
        model: whose log-mels are shown.
        target: the file to write.
        top: how many classes to show: those with the highest probability in any window.
    """
    from matplotlib.figure import Figure

    features = model.features
    assert features is not None, "models of waveforms have been refused"
    spectrogram = mel_spectrogram(path, model, tagged.seconds)
    shown = np.argsort(-tagged.timeline.max(axis=0), kind="stable")[:top]
    figure = Figure(figsize=(10, 3.5 + 0.3 * len(shown)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 0.5 + 0.4 * len(shown)), sharex=True)
    extent = (0.0, tagged.seconds, 0.0, float(features.num_mels))
    loudest = float(spectrogram.max())
    image = above.imshow(
        spectrogram.T.numpy(), origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=loudest - 80, vmax=loudest
    )
    figure.colorbar(image, ax=above, label="energy (dB)")
    ticks = [hertz for hertz in _TICKS_HZ if hertz <= features.sample_rate_hz / 2]
    above.set_yticks([_band(hertz, features) for hertz in ticks], [f"{hertz / 1000:g}" for hertz in ticks])
    above.set_ylabel("frequency (kHz, mel scale)")
    above.set_title(legible(tagged.name), fontsize=9, parse_math=False)  # a $ in a name is a $
    for row, number in enumerate(shown):
        edges = [*tagged.starts_seconds, tagged.stops_seconds[-1]]
        values = tagged.timeline[None, :, number]
        mesh = below.pcolormesh(edges, [row - 0.45, row + 0.45], values, cmap="viridis", vmin=0, vmax=1)
    below.set_yticks(range(len(shown)), [model.class_names[number] for number in shown], parse_math=False)
    below.invert_yaxis()
    below.set_xlabel("time (s)")
    below.set_xlim(0, tagged.seconds)
    figure.colorbar(mesh, ax=below, label="probability")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        figure.savefig(file, dpi=110, format="png")


def mel_spectrogram(path: Path, model: AudioModel, seconds: float) -> Float[Tensor, "columns mels"]:
    """Decibels over the whole recording, in so many columns that it can be drawn: louder frames win."""
    features = model.features
    assert features is not None, "models of waveforms have been refused"
    rate_hz = features.sample_rate_hz
    hop, size = hop_samples(rate_hz), window_samples(rate_hz)
    frames_per_column = max(1, math.ceil(seconds * rate_hz / hop / _COLUMNS))
    step = frames_per_column * hop
    held, columns = torch.zeros(0, dtype=torch.float32), []
    for block in stream_audio(path, rate_hz, model.resampler):
        held = torch.cat([held, block])
        count = (len(held) - size) // step
        if count > 0:
            mels = kaldi_fbank(held[None, : count * step + size - hop], rate_hz, features.num_mels)[0]
            columns.append(mels.unflatten(0, (count, frames_per_column)).amax(dim=1))
            held = held[count * step :]
    last = torch.nn.functional.pad(held, (0, max(0, size - len(held))))
    columns.append(kaldi_fbank(last[None], rate_hz, features.num_mels)[0].amax(dim=0, keepdim=True))
    return torch.cat(columns) * _DECIBELS_PER_NEPER


def _band(hertz: float, features: LogMels) -> float:
    """Where a frequency lies among the mel bands."""

    def mel(frequency: float) -> float:
        return 1127.0 * math.log(1.0 + frequency / 700.0)

    return (mel(hertz) - mel(20.0)) / (mel(features.sample_rate_hz / 2) - mel(20.0)) * features.num_mels
