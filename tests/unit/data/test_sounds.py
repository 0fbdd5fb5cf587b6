from __future__ import annotations

import numpy as np
import pytest

from sslam_lightning.data.synthetic_sounds import SOUNDS, background


def spectrum(sound: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(sound))


@pytest.mark.parametrize("name", [*SOUNDS, "background"])
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_every_sound_is_finite_audible_and_not_aliased(name: str, rate_hz: int) -> None:
    sound = SOUNDS.get(name, background)
    for seed in range(5):
        wave = sound(np.random.default_rng(seed), rate_hz, rate_hz)
        assert wave.shape == (rate_hz,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert wave.std() > 0
        again = sound(np.random.default_rng(seed), rate_hz, rate_hz)
        assert np.array_equal(wave, again)
    assert not np.array_equal(wave, sound(np.random.default_rng(99), rate_hz, rate_hz))


def test_chirps_go_where_they_say() -> None:
    for name, sign in (("rising chirp", 1), ("falling chirp", -1)):
        sound = SOUNDS[name](np.random.default_rng(3), 32000, 16000)
        sweep = np.array([spectrum(part).argmax() for part in sound.reshape(64, 500)])
        steps = np.sign(np.diff(sweep))
        assert (steps == sign).sum() > 5 * (steps == -sign).sum() > 0 or (steps == -sign).sum() == 0


def test_noises_keep_to_their_band() -> None:
    rng = np.random.default_rng(0)
    bins_hz = np.fft.rfftfreq(32768, 1 / 16000)
    for name, low, high in (("rumble", 0, 250), ("hiss", 1900, 7300)):
        power = spectrum(SOUNDS[name](rng, 32768, 16000)) ** 2
        assert power[(bins_hz >= low) & (bins_hz <= high)].sum() > 0.99 * power.sum()


def test_a_tone_is_one_line() -> None:
    power = spectrum(SOUNDS["tone"](np.random.default_rng(1), 16000, 16000) * np.hanning(16000)) ** 2
    peak = int(power.argmax())
    assert 250 <= peak <= 3000
    assert power[peak - 3 : peak + 4].sum() > 0.999 * power.sum()
