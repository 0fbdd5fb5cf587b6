"""A small DCASE 2016 task 2: the folder's own form, scenes of a few seconds, a class a pitch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16000
HERTZ = {"phone": 500.0, "keys": 1500.0, "knock": 4000.0}
_DEVELOPMENT = "dcase2016_task2_train_dev/dcase2016_task2_dev"
_PARTS = {
    f"{_DEVELOPMENT}": ["dev_1_ebr_-6_nec_1_poly_0", "dev_1_ebr_6_nec_2_poly_0", "dev_1_ebr_0_nec_1_poly_0"],
    "dcase2016_task2_test_public": ["test_1_ebr_6_nec_5_poly_1", "test_1_ebr_0_nec_2_poly_1"],
}


def make_scenes(root: Path, seconds: float = 6.0, events_per_scene: int = 6) -> Path:
    """Two scenes to train on, one to validate on, two to test on."""
    rng = np.random.default_rng(0)
    for part, names in _PARTS.items():
        for folder in ("sound", "annotation"):
            (root / part / folder).mkdir(parents=True)
        for name in names:
            wave = 0.01 * rng.standard_normal(round(seconds * RATE_HZ))
            rows = []
            for number in range(events_per_scene):
                label = list(HERTZ)[number % len(HERTZ)]
                onset, length = rng.uniform(0, seconds - 1.0), rng.uniform(0.4, 0.9)
                first, count = round(onset * RATE_HZ), round(length * RATE_HZ)
                wave[first : first + count] += 0.2 * np.sin(2 * np.pi * HERTZ[label] * np.arange(count) / RATE_HZ)
                rows.append(f"{onset:.3f}\t{onset + length:.3f}\t{label}\n")
            soundfile.write(root / part / "sound" / f"{name}.wav", wave, RATE_HZ)
            (root / part / "annotation" / f"{name}.txt").write_text("".join(rows))
    return root
