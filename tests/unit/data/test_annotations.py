from __future__ import annotations

import json
from pathlib import Path

import pytest

from sslam_lightning.data.manifests.annotations import (
    labels_of,
    read_event_list,
    read_event_table,
    read_jams_events,
    renamed,
)
from sslam_lightning.types import Event


@pytest.mark.parametrize("text", ["0.5\t1.25\tcar horn\n\n2\t3\tdog\n", "0.5 1.25 car horn\n2 3 dog"])
def test_event_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_event_list(tmp_path / "a.txt") == [Event(0.5, 1.25, "car horn"), Event(2.0, 3.0, "dog")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.5\t1.0", r"line 2: expected onset<TAB>offset<TAB>label, got '0\.5\\t1\.0'"),
        ("x\t1.0\tdog", r"line 2: onset and offset must be numbers of seconds, got 'x' and '1\.0'"),
        ("2.0\t1.0\tdog", r"line 2: an event from 2\.0 to 1\.0 s does not lie in a recording"),
        ("-1\t1.0\tdog", r"line 2: an event from -1 to 1\.0 s does not lie in a recording"),
        ("0\tinf\tdog", r"line 2: onset and offset must be finite, got 0 and inf"),
        ("nan\t1\tdog", r"line 2: onset and offset must be finite, got nan and 1"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(f"0\t1\tcat\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_event_list(tmp_path / "a.txt")


def test_event_tables(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("event_label\tonset\toffset\tfilename\ndog\t0\t1\ta.wav\n\ncat\t2\t3\ta.wav\n\t\t\tsilent.wav\n")
    assert read_event_table(table) == {"a.wav": [Event(0, 1, "dog"), Event(2, 3, "cat")], "silent.wav": []}
    table.write_text('filename,onset,offset,event_label\na.wav,0,1,"Dog, barking"\n')
    assert read_event_table(table) == {"a.wav": [Event(0, 1, "Dog, barking")]}
    table.write_text("segment_id\tstart_time_seconds\tend_time_seconds\tlabel\nx_0\t0.1\t0.2\t/m/1\n")
    found = read_event_table(table)
    assert found == {"x_0": [Event(0.1, 0.2, "/m/1")]}
    assert renamed(found, {"/m/1": "Dog"}) == {"x_0": [Event(0.1, 0.2, "Dog")]}
    assert renamed(found, {}) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file\tonset\toffset\tlabel\na\t0\t1\tdog\n",
            r"no column filename or segment_id among file, onset, offset, label",
        ),
        ("filename\tonset\toffset\tlabel\na\t0\t1\n", r"line 2: expected filename<TAB>onset<TAB>offset<TAB>label, got"),
        ("filename\tonset\toffset\tlabel\na\t0\t1\t\n", r"line 2: an event without a label"),
        ("filename\tonset\toffset\tlabel\na\t0\tlate\tdog\n", r"line 2: onset and offset must be numbers of seconds"),
        ("filename\tonset\toffset\tlabel\n", r"t\.tsv: no events in it"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_event_table(tmp_path / "t.tsv")


def test_bad_jams(tmp_path: Path) -> None:
    path = tmp_path / "a.jams"
    for text in ("{", "[]", '{"annotations": [{"data": []}]}', '{"annotations": [{"namespace": "scaper", "data": [1]}]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"a\.jams: not a JAMS file of sound events"):
            read_jams_events(path)
    path.write_text(json.dumps({"annotations": [{"namespace": "beat", "data": []}]}))
    with pytest.raises(ValueError, match="no annotation of the namespace scaper or sound_event"):
        read_jams_events(path)


def test_files_that_do_not_exist(tmp_path: Path) -> None:
    for read in (read_event_list, read_event_table, read_jams_events):
        with pytest.raises(FileNotFoundError, match=r"gone does not exist"):
            read(tmp_path / "gone")


def test_labels_in_their_order() -> None:
    assert labels_of([[Event(0, 1, "b"), Event(0, 1, "a")], [], [Event(0, 1, "b")]]) == ("a", "b")
