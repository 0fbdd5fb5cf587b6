from __future__ import annotations

import pytest
import torch

from sslam_lightning.data.manifests.recordings import class_balanced_weights, make_recordings
from sslam_lightning.data.shards.packed import PackedClasses, PackedStrings


def test_packed_strings_are_the_strings() -> None:
    strings = ["a/b.wav", "", "Vögel/🐦.flac", "x" * 300, "odd\udcff.wav"]
    packed = PackedStrings(strings)
    assert list(packed) == strings
    assert packed[-1] == strings[-1]
    assert packed[1:4] == strings[1:4]
    assert len(packed) == 5
    with pytest.raises(IndexError):
        packed[5]


def test_packed_strings_over_chunks() -> None:
    """Plain and other characters in different chunks, and bytes that are no text."""
    strings = [f"{'ä' * (i // 5000 % 2)}{i}{chr(0xDCF0) * (i % 997 == 0)}" for i in range(15_000)]
    packed = PackedStrings(iter(strings))
    assert list(packed) == strings
    assert [packed[i] for i in (0, 4095, 4096, 14_999)] == [strings[i] for i in (0, 4095, 4096, 14_999)]
    assert packed.fingerprint() != PackedStrings(reversed(strings)).fingerprint()
    assert list(PackedStrings(())) == []


def test_classes_of_texts() -> None:
    """In any order, with spaces, empty and repeated ones; errors name the row, also behind the first chunk."""
    class_of = {"a": 0, "b b": 1, "c": 2}
    texts = ["c;a", "", " b b ;a;;b b", "c"] * 2000

    def explain(row: int, label: str) -> Exception:
        return ValueError(f"row {row}: {label!r}")

    rows = PackedClasses.of_texts(texts, ";", class_of, explain)
    assert len(rows) == 8000
    assert list(rows) == [[0, 2], [], [0, 1], [2]] * 2000
    assert rows[-1:] == [[2]]
    assert list(PackedClasses.of_texts([], ";", class_of, explain)) == []
    with pytest.raises(ValueError, match=r"^row 7001: 'd'$"):
        PackedClasses.of_texts([*texts[:7001], "a; d", "e", *texts], ";", class_of, explain)


def test_labels_are_multi_hot() -> None:
    recordings = make_recordings("root", ["a.wav", "b.wav", "c.wav"], [[2, 0], [], [1]], ["x", "y", "z"])
    assert recordings.path(1) == "root/b.wav"
    assert [recordings.classes(i) for i in range(3)] == [[2, 0], [], [1]]
    assert torch.stack([recordings.labels(i) for i in range(3)]).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_unlabeled_recordings_have_no_columns() -> None:
    recordings = make_recordings("", ["a.wav"], [()], ())
    assert recordings.labels(0).shape == (0,)
    with pytest.raises(ValueError, match="need labels, and the 1 recordings have none"):
        class_balanced_weights(recordings)


def test_class_balanced_weights_by_hand() -> None:
    # class 0 three times, class 1 once, class 2 never
    recordings = make_recordings("", ["a", "b", "c", "d"], [[0], [0, 1], [0], []], ["x", "y", "z"])
    often, once = 1000 / 3.01, 1000 / 1.01
    expected = torch.tensor([often, often + once, often, 0.0], dtype=torch.float64)
    torch.testing.assert_close(class_balanced_weights(recordings), expected)


def test_rows_must_fit() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        make_recordings("", ["a", "b"], [[0]], ["x"])
    with pytest.raises(ValueError, match=r"class indices must lie in 0..0, got 0..1"):
        make_recordings("", ["a", "b"], [[0], [1]], ["x"])
