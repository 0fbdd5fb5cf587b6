"""One look at a recording: what it is, or why it is no good."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import soundfile

from sslam_lightning.data.audio.read import UnreadableAudio, open_sound
from sslam_lightning.data.filesystem import exists, for_libsndfile, is_url, join, open_binary

_BLOCK_SAMPLES = 1 << 18  # of all channels, so that an hour of sound does not have to lie in memory


class Found(NamedTuple):
    """A good recording: a row of a manifest."""

    path: str  # as the manifest calls it
    seconds: float
    sample_rate_hz: int
    channels: int
    frames: int  # samples of each channel
    labels: str


class Rejected(NamedTuple):
    """A recording that is left out: listed with its reason, beside what was kept."""

    path: str
    reason: str


class Standards(NamedTuple):
    """What a recording must be: long enough, and louder at its peak than so much (relative to full scale)."""

    min_seconds: float = 0.1
    silence_db: float = -90.0

    def check(self) -> None:
        """Raise ValueError for a bound that every recording, or none, would keep."""
        if self.min_seconds < 0:
            raise ValueError(f"min_seconds must not be negative, got {self.min_seconds:g}")
        if self.silence_db > 0:
            raise ValueError(f"silence_db is relative to full scale, so at most 0, got {self.silence_db:g}")


def inspect(root: str, name: str, labels: str, standards: Standards) -> Found | Rejected:
    """Decode a whole file and say what it is, or why it cannot be used.

    That is: absent, empty, broken, cut off, silent, too short, not finite, or at a rate that no recording has.
    """
    path = join(root, name)
    try:
        if not exists(path):
            return Rejected(name, "no such file")
        with open_binary(path) as file:
            if not file.read(1):
                return Rejected(name, "empty file")
        with open_sound(open_binary(path) if is_url(path) else for_libsndfile(path), name) as sound:
            frames, peak, finite = _listen(sound)
            found = Found(name, round(frames / sound.samplerate, 6), sound.samplerate, sound.channels, frames, labels)
            # the length of an mp3 is a guess, if its first frame does not tell it
            expected = 0 if sound.format == "MP3" else sound.frames
    except (UnreadableAudio, OSError) as error:
        return Rejected(name, " ".join(str(error).removeprefix(f"{name}: ").split()))
    if frames == 0:
        return Rejected(name, "holds no samples")
    if not finite:
        return Rejected(name, "holds samples that are NaN or infinite")
    if frames < expected < 1 << 62:
        return Rejected(name, f"truncated: {frames} of {expected} samples can be decoded")
    if found.seconds < standards.min_seconds:
        return Rejected(name, f"too short: {found.seconds:g} s, less than {standards.min_seconds:g} s")
    if peak <= 10 ** (standards.silence_db / 20):
        level = f"{20 * np.log10(peak):.0f} dB at its peak" if peak > 0 else "all samples are 0"
        return Rejected(name, f"silent: {level}")
    return found


def _listen(sound: soundfile.SoundFile) -> tuple[int, float, bool]:
    frames, peak, finite = 0, 0.0, True
    block_frames = max(1, _BLOCK_SAMPLES // sound.channels)
    while finite and len(block := sound.read(block_frames, dtype="float32", always_2d=True)):
        frames += len(block)
        highest = float(np.abs(block).max())
        finite = bool(np.isfinite(highest))  # the maximum of NaN is NaN
        peak = max(peak, highest)
    return frames, peak, finite
