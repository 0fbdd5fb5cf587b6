"""Ten kinds of sound that a person would tell apart by ear, made from formulas.

Each function draws its pitch, rate or color from ``rng`` and returns float32 samples of no particular level. All
frequencies stay below 45 % of the sample rate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Rng = np.random.Generator
Samples = Float[np.ndarray, "samples"]
Sound = Callable[[Rng, int, int], Samples]


def tone(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """One steady sine, 250 to 3000 Hz."""
    return _sine(_steady(_log_uniform(rng, 250.0, 3000.0), num_samples, sample_rate_hz))


def hum(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """A machine: ten harmonics of 60 to 250 Hz, falling off by 3 to 9 dB an octave."""
    cycles = _steady(_log_uniform(rng, 60.0, 250.0), num_samples, sample_rate_hz)
    slope = rng.uniform(0.5, 1.5)
    return sum((_sine(cycles * k + rng.random()) / np.float32(k**slope) for k in range(1, 11)), _silence(num_samples))


def rising_chirp(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """One to four sweeps upwards by one and a half to three octaves."""
    return _chirps(rng, _sawtooth(rng, num_samples), sample_rate_hz)


def falling_chirp(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """One to four sweeps downwards by one and a half to three octaves."""
    return _chirps(rng, 1 - _sawtooth(rng, num_samples), sample_rate_hz)


def siren(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """A tone that goes up and down 2 to 7 times a second."""
    swing = _sine(_steady(rng.uniform(2.0, 7.0), num_samples, sample_rate_hz) + rng.random())
    return _glide(_log_uniform(rng, 500.0, 1800.0) * 2 ** (swing * rng.uniform(0.2, 0.6)), sample_rate_hz)


def flutter(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """Rotor blades: broad noise that swells 5 to 20 times a second."""
    swell = 0.5 + 0.5 * _sine(_steady(rng.uniform(5.0, 20.0), num_samples, sample_rate_hz) + rng.random())
    return _band_noise(rng, num_samples, sample_rate_hz, 100.0, _log_uniform(rng, 1500.0, 6000.0)) * swell**2


def clicks(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """A clock or a ratchet: short knocks, 3 to 16 a second."""
    since = _seconds_since_stroke(rng, _log_uniform(rng, 3.0, 16.0), num_samples, sample_rate_hz)
    knock_hz, decay_seconds = _log_uniform(rng, 1000.0, 4000.0), _log_uniform(rng, 0.001, 0.004)
    return np.exp(-since / np.float32(decay_seconds)) * _sine(since * min(knock_hz, 0.45 * sample_rate_hz) + 0.25)


def hiss(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """Escaping steam: noise in one octave, from 2 to 4 kHz upwards."""
    low_hz = _log_uniform(rng, 2000.0, 4000.0)
    return _band_noise(rng, num_samples, sample_rate_hz, min(low_hz, 0.2 * sample_rate_hz), 2 * low_hz)


def bell(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """Strokes with the inharmonic partials of a bell, dying away, 0.7 to 2 a second."""
    since = _seconds_since_stroke(rng, rng.uniform(0.7, 2.0), num_samples, sample_rate_hz)
    strike_hz, decay_seconds = _log_uniform(rng, 350.0, 900.0), rng.uniform(0.15, 0.5)
    wave = _silence(num_samples)
    for ratio in (1.0, 2.0, 2.4, 3.0, 4.5):  # prime, octave, tierce, quint, upper partial
        if ratio * strike_hz < 0.45 * sample_rate_hz:
            wave += np.exp(-since * np.float32(ratio / decay_seconds)) * _sine(since * (ratio * strike_hz))
    return wave


def rumble(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """Thunder or traffic: noise below 80 to 200 Hz."""
    return _band_noise(rng, num_samples, sample_rate_hz, 25.0, rng.uniform(80.0, 200.0))


def background(rng: Rng, num_samples: int, sample_rate_hz: int) -> Samples:
    """The air of a room: noise over all frequencies, white to pink. Not one of the classes."""
    return _band_noise(rng, num_samples, sample_rate_hz, 20.0, 0.5 * sample_rate_hz, slope=rng.uniform(0.0, 0.5))


_KINDS: tuple[Sound, ...] = (tone, hum, rising_chirp, falling_chirp, siren, flutter, clicks, hiss, bell, rumble)
SOUNDS = {kind.__name__.replace("_", " "): kind for kind in _KINDS}


def _silence(num_samples: int) -> Samples:
    return np.zeros(num_samples, dtype=np.float32)


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())


def _steady(hertz: float, num_samples: int, sample_rate_hz: int) -> Float[np.ndarray, "samples"]:
    """Cycles passed at every sample."""
    return np.arange(num_samples) * (hertz / sample_rate_hz)


def _sine(cycles: Float[np.ndarray, "samples"]) -> Samples:
    # Whole cycles go before the cast: float32 would round the phase of a high tone.
    return np.sin((cycles - np.floor(cycles)).astype(np.float32) * np.float32(2 * np.pi))


def _glide(hertz: Float[np.ndarray, "samples"], sample_rate_hz: int) -> Samples:
    return _sine(np.cumsum(np.minimum(hertz, 0.45 * sample_rate_hz) / sample_rate_hz, dtype=np.float64))


def _chirps(rng: Rng, sweep: Float[np.ndarray, "samples"], sample_rate_hz: int) -> Samples:
    return _glide(_log_uniform(rng, 250.0, 700.0) * 2 ** (sweep * rng.uniform(1.5, 3.0)), sample_rate_hz)


def _sawtooth(rng: Rng, num_samples: int) -> Float[np.ndarray, "samples"]:
    """From 0 to 1, one to four times."""
    return (np.arange(num_samples) * (rng.integers(1, 5) / num_samples)) % 1.0


def _seconds_since_stroke(rng: Rng, strokes_per_second: float, num_samples: int, sample_rate_hz: int) -> Samples:
    period = sample_rate_hz / strokes_per_second
    return ((np.arange(num_samples) + rng.random() * period) % period / sample_rate_hz).astype(np.float32)


def _band_noise(
    rng: Rng, num_samples: int, sample_rate_hz: int, low_hz: float, high_hz: float, slope: float = 0.0
) -> Samples:
    """Gaussian noise between two frequencies, drawn as its spectrum; amplitude falls as frequency ** -slope."""
    length = 1 << (num_samples - 1).bit_length()  # fast to transform; a cut of noise is noise
    first = max(1, int(low_hz / sample_rate_hz * length))
    last = max(first + 1, int(min(high_hz / sample_rate_hz, 0.45) * length))
    spectrum = np.zeros(length // 2 + 1, dtype=np.complex64)
    spectrum[first:last] = rng.standard_normal(2 * (last - first), dtype=np.float32).view(np.complex64)
    if slope:
        spectrum[first:last] *= np.arange(first, last, dtype=np.float32) ** np.float32(-slope)
    return np.fft.irfft(spectrum, length)[:num_samples].astype(np.float32)
