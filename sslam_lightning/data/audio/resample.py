"""Change the sample rate, of whole waveforms or block by block.

The resampler is visible in the top mel bins, so its name belongs to the description of a data set: "torchaudio" is what
the released weights were trained on, "soxr" (HQ) is the better filter.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.data.audio.read import first_line
from sslam_lightning.data.audio.sinc_resampler import sinc_resampler
from sslam_lightning.types import ResamplerName
from sslam_lightning.whole_numbers import whole_rate


class MissingResampler(RuntimeError):
    """A resampling library cannot be imported."""

    for_users = True  # the message says it all


class Resampler(Protocol):
    """Turns the blocks of one recording, or of several of the same length, into blocks at another rate."""

    def push(self, block: Float[Tensor, "rows samples"]) -> Float[Tensor, "rows resampled"]:
        """What can be computed so far."""

    def finish(self) -> Float[Tensor, "rows resampled"]:
        """The rest, after the last block."""


def check_resampler(method: str) -> None:
    """Raise ValueError unless ``method`` is the name of a resampler."""
    if method not in get_args(ResamplerName):
        raise ValueError(f"resampler must be one of {', '.join(get_args(ResamplerName))}, got {method!r}")


def resample(
    waveform: Float[Tensor, "samples"], from_hz: int, to_hz: int, method: ResamplerName = "torchaudio"
) -> Float[Tensor, "resampled"]:
    """Resample a mono float32 waveform; equal rates return it as it is.

    Args:
        waveform: the samples.
        from_hz, to_hz: sample rates; whole numbers, 44100.0 included.
        method: "torchaudio" equals ``torchaudio.functional.resample`` with its default arguments (Hann-windowed sinc,
            width 6, rolloff 0.99), several times as fast (see `SincResampler`); "soxr" is libsoxr at HQ.

    Raises:
        ValueError: unknown method, or a rate that is not a positive whole number.
        MissingResampler: soxr cannot be imported; the message says what to install.
    """
    from_hz, to_hz = _checked(from_hz, to_hz, method)
    if from_hz == to_hz:
        return waveform
    if method == "torchaudio":
        return sinc_resampler(from_hz, to_hz)(waveform)
    return torch.from_numpy(_import_soxr().resample(waveform.numpy(), from_hz, to_hz, quality="HQ"))


def resample_rows(
    waveforms: Float[Tensor, "rows samples"], from_hz: int, to_hz: int, resampler: ResamplerName = "torchaudio"
) -> Float[Tensor, "rows resampled"]:
    """Resample several waveforms, on their device ("soxr": on the CPU)."""
    converter = streaming_resampler(from_hz, to_hz, resampler)
    return torch.cat([converter.push(waveforms), converter.finish()], dim=1)


def streaming_resampler(from_hz: int, to_hz: int, method: ResamplerName = "torchaudio") -> Resampler:
    """Make a resampler for one stream; raises as `resample`."""
    from_hz, to_hz = _checked(from_hz, to_hz, method)
    if from_hz == to_hz:
        return _SameRate()
    return _SincStream(from_hz, to_hz) if method == "torchaudio" else _SoxrStream(from_hz, to_hz)


class _SameRate:
    def push(self, block: Tensor) -> Tensor:
        self._nothing = block[:, :0]
        return block

    def finish(self) -> Tensor:
        return self._nothing


class _SincStream:
    """`SincResampler`, with the input that it needs to continue."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._sinc = sinc_resampler(from_hz, to_hz)
        self._held: Tensor | None = None  # input from `width` samples before the next period
        self._num_in = self._num_out = 0

    def push(self, block: Tensor) -> Tensor:
        if self._held is None:
            self._held = block.new_zeros(block.shape[0], self._sinc.width)
        self._num_in += block.shape[1]
        self._held = torch.cat([self._held, block], dim=1)
        count = (self._held.shape[1] - self._sinc.reach) // self._sinc.period_in + 1
        if count <= 0:
            return self._held[:, :0]
        out = self._sinc.periods(self._held, count)
        self._held = self._held[:, count * self._sinc.period_in :]
        self._num_out += out.shape[1]
        return out

    def finish(self) -> Tensor:
        assert self._held is not None
        return self._sinc.last_periods(self._held, self._sinc.num_resampled(self._num_in) - self._num_out)


class _SoxrStream:
    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._soxr, self._rates = _import_soxr(), (from_hz, to_hz)
        self._stream: Any = None
        self._rows = 1

    def push(self, block: Tensor) -> Tensor:
        if self._stream is None:
            self._rows = block.shape[0]
            self._stream = self._soxr.ResampleStream(*self._rates, self._rows, dtype="float32", quality="HQ")
        return self._convert(block.cpu().numpy().T).to(block.device)

    def finish(self) -> Tensor:
        return self._convert(np.zeros((0, self._rows), np.float32), last=True)

    def _convert(self, samples: np.ndarray, last: bool = False) -> Tensor:
        samples = np.ascontiguousarray(samples if self._rows > 1 else samples[:, 0])
        done = self._stream.resample_chunk(samples, last=last)
        return torch.from_numpy(np.ascontiguousarray(done.reshape(len(done), self._rows).T))


def _checked(from_hz: int, to_hz: int, method: str) -> tuple[int, int]:
    check_resampler(method)
    from_hz, to_hz = whole_rate(from_hz, "from_hz"), whole_rate(to_hz, "to_hz")
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, got {from_hz} Hz and {to_hz} Hz")
    return from_hz, to_hz


def _import_soxr() -> ModuleType:
    try:
        import soxr
    except (ImportError, OSError) as error:
        raise MissingResampler(
            f"soxr cannot be imported ({first_line(error)}): pip install 'sslam-lightning[soxr]', "
            "or choose data.resampler: torchaudio where the model was not trained with soxr"
        ) from error
    return soxr  # type: ignore[no-any-return]
