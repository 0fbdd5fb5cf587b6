"""Tags of recordings, and how they are told."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from matplotlib.image import imread

from sslam_lightning.data.audio.read import read_audio
from sslam_lightning.inference.loading import audioset_classes, class_names_of
from sslam_lightning.inference.plot import draw_timeline, mel_spectrogram
from sslam_lightning.inference.sources import Source
from sslam_lightning.inference.tagging.formats import Report
from sslam_lightning.inference.tagging.tag import Tagged, Unreadable, tag_recordings

NAMES = ("dog", 'cat, "tom"', "rain")
SHORT = Tagged("a/b.wav", None, 5.0, np.array([0.1, 0.9, 0.3]), [0.0], [5.0], np.array([[0.1, 0.9, 0.3]]), NAMES)
LONG = Tagged(
    "long.wav",
    None,
    3725.5,
    np.array([0.2, 0.5, 0.3]),
    [0.0, 3700.0],
    [3700.0, 3725.5],
    np.array([[0.1, 0.9, 0.3], [0.3, 0.1, 0.3]]),
    NAMES,
)


def told(form, *recordings: Tagged) -> str:
    stream = io.StringIO()
    report = Report(stream, 2, form)
    for recording in recordings:
        report.write(recording)
    return stream.getvalue()


def test_a_table_for_people() -> None:
    assert told("table", SHORT) == 'a/b.wav  (0:05.0)\n  0.900  cat, "tom"\n  0.300  rain\n'
    assert told("table", LONG).splitlines() == [
        "long.wav  (1:02:05.5)",
        "   mean   peak         at  class",
        '  0.500  0.900     0:00.0  cat, "tom"',
        "  0.300  0.300     0:00.0  rain",
        '     0:00.0  cat, "tom" 0.90, rain 0.30',
        "  1:01:40.0  dog 0.30, rain 0.30",
    ]


def test_json_is_an_object_a_line() -> None:
    short, long = (json.loads(line) for line in told("json", SHORT, LONG).splitlines())
    cat = {"class": NAMES[1], "probability": 0.9}
    assert short == {"file": "a/b.wav", "seconds": 5.0, "tags": [cat, {"class": "rain", "probability": 0.3}]}
    assert [(span["start_seconds"], span["stop_seconds"]) for span in long["timeline"]] == [(0, 3700), (3700, 3725.5)]
    assert long["timeline"][0]["tags"][0] == cat


def test_csv_has_rows_of_the_whole_and_of_windows() -> None:
    rows = list(csv.DictReader(io.StringIO(told("csv", SHORT, LONG))))
    assert [(row["file"], row["part"], row["rank"], row["class"]) for row in rows[:3]] == [
        ("a/b.wav", "recording", "1", NAMES[1]),
        ("a/b.wav", "recording", "2", "rain"),
        ("long.wav", "recording", "1", NAMES[1]),
    ]
    assert len(rows) == 2 + 2 + 2 * 2
    last = {"part": "window", "start_seconds": "3700.0000", "stop_seconds": "3725.5000", "rank": "2", "class": "rain"}
    assert last.items() <= rows[-1].items()
    assert float(rows[-1]["probability"]) == 0.3


def test_tags_are_the_models(make_model, write_noise) -> None:
    model = make_model("mean")
    short, long = write_noise("short.wav", 0.5), write_noise("long.flac", 1.5, 16000, 2)
    broken = Source("broken", short.path.with_name("none.wav"))
    found = list(tag_recordings(model, [short, broken, long], model.windows(overlap_seconds=0.0), batch_size=2))
    assert found[1] == Unreadable("broken", "no such file")
    np.testing.assert_allclose(found[0].probs, model(read_audio(short.path)[0], 16000).probs, atol=1e-6)
    whole = found[2]
    # 148 frames: 0-64, 64-128, and a last window that begins earlier
    np.testing.assert_allclose(whole.starts_seconds, [0.0, 0.64, 0.96])
    np.testing.assert_allclose(whole.stops_seconds, [0.64, 1.28, 1.5])
    np.testing.assert_allclose(whole.probs, np.average(whole.timeline, axis=0, weights=[4, 4, 4]), atol=1e-6)
    with pytest.raises(ValueError, match="no classification head, so it cannot tell classes"):
        list(tag_recordings(make_model(), [short]))


def test_audiosets_classes_have_their_names() -> None:
    names = audioset_classes()
    assert len(names) == len(set(names)) == 527
    assert (names[0], names[137], names[526]) == ("Speech", "Music", "Field recording")
    assert class_names_of(527) == names
    assert class_names_of(2, ("dog", "cat")) == ("dog", "cat")
    assert class_names_of(2) == ("class 0", "class 1")


def test_a_spectrogram_has_every_frame_whatever_its_columns(make_model, write_noise, monkeypatch) -> None:
    model, source = make_model("mean"), write_noise("a.wav", 45.0, 8000)
    fine = mel_spectrogram(source.path, model, 45.0)
    assert len(fine) == 1500  # three frames a column
    monkeypatch.setattr("sslam_lightning.inference.plot._COLUMNS", 100)
    coarse = mel_spectrogram(source.path, model, 45.0)
    assert len(coarse) == 100
    np.testing.assert_allclose(coarse[:99], fine[: 99 * 15].unflatten(0, (99, 15)).amax(dim=1))


def test_a_picture_is_drawn(make_model, write_noise, tmp_path) -> None:
    model, source = make_model("mean"), write_noise("a.wav", 2.0)
    (tagged,) = tag_recordings(model, [source])
    draw_timeline(tagged, source.path, model, tmp_path / "new/a.png", top=3)
    picture = imread(tmp_path / "new/a.png")
    assert picture.shape[1] == 1100
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 200


def test_a_dollar_in_a_name_is_a_dollar(make_model, write_noise, tmp_path) -> None:
    """Neither that of a file nor that of a class is read as mathematics, which it may not be."""
    model, source = make_model("mean"), write_noise(r"a$\b$.wav", 1.0)
    model.class_names = tuple(rf"${name}_^$" for name in model.class_names)
    (tagged,) = tag_recordings(model, [source])
    draw_timeline(tagged, source.path, model, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[1] == 1100
