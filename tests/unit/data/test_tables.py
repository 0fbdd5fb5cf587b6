"""The one reader of tables: what is wrong is said with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data.manifests.tables import Table, open_text, read_columns, write_table


def test_columns_by_any_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('\ufeffb; A;c\n1;"x; y";\n\n;;\n2; z ;3\n', encoding="utf-8")
    found = list(read_columns(tmp_path / "t.csv", [["id", "a"], ["b"]], "\t;,"))
    assert found == [(2, ["x; y", "1"]), (5, ["z", "2"])]  # blank rows count as lines
    with pytest.raises(ValueError, match=r"t\.csv: no column d or e, f among b, a, c"):
        list(read_columns(tmp_path / "t.csv", [["a"], ["d", "e"], ["f"]], ";"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\n1\t2\n3\n", r"t\.tsv, line 3: expected a<TAB>b, got '3'"),
        (b"a\tb\n\xff\t2\n", r"t\.tsv: not a table in UTF-8"),
        (b"a\tb\n1\t" + b"x" * 200_000 + b"\n", r"t\.tsv, line 2: field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message), open_text(tmp_path / "t.tsv", errors="strict") as file:
        list(Table(file, tmp_path / "t.tsv"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [["tab\there", "new\nline"], ['"quoted", so', "\udcff"]]
    for name in ("t.tsv", "t.csv"):
        write_table(str(tmp_path / name), ["a", "b"], rows)
        with open_text(tmp_path / name) as file:
            assert [row for _, row in Table(file, tmp_path / name)] == rows
    with pytest.raises(FileExistsError, match=r"t\.csv exists already"):
        write_table(str(tmp_path / "t.csv"), ["a"], [])
