from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data.descriptors import ClassTable, read_class_table


def read(folder: Path, text: str) -> ClassTable:
    (folder / "classes.csv").write_text(text)
    return read_class_table(folder / "classes.csv")


@pytest.mark.parametrize("header", ["", "index,mid,display_name\n"])
def test_audioset_form(tmp_path: Path, header: str) -> None:
    table = read(tmp_path, header + '0,/m/09x0r,Speech\n1,/m/05zppz,"Male speech, man speaking"\n')
    assert table.names == ("Speech", "Male speech, man speaking")
    assert table.class_of["/m/05zppz"] == table.class_of["Male speech, man speaking"] == 1
    assert len(table.class_of) == 4


@pytest.mark.parametrize("text", ["dog,1\ncat,0\n", "dog\t1\ncat\t0\n", "1,dog\n0,cat\n", "index,label\n1,dog\n0,cat\n"])
def test_two_columns(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text)
    assert table.names == ("cat", "dog")
    assert table.class_of == {"cat": 0, "dog": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no classes in it"),
        ("index,mid,name\n", "no classes in it"),
        ("0,3\n1,4\n", "both columns are numbers"),
        ("0,a,A\nx,b,B\n", "line 2: expected index,mid,name"),
        ("0,a,A\n1\n", "line 2: expected index,mid,name"),
        ("0,a,A\n0,b,B\n", "line 2: class 0 comes twice"),
        ("0,a,A\n1,a,B\n", "line 2: 'a' stands for class 0 and class 1"),
        ("0,a,A\n2,b,B\n", "class 1 is missing"),
        ('0,a,A\n1,b,"B\tb"\n', r"the class 'B\\tb' holds a control character or a surrogate"),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, text)
    assert "classes.csv" in str(caught.value)


def test_names_of_any_script(tmp_path: Path) -> None:
    names = ("می\u200cشود", "क्\u200dष", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}", "10\u00a0Hz")
    assert read(tmp_path, "".join(f"{number},m{number},{name}\n" for number, name in enumerate(names))).names == names


def test_absent_table(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"label descriptors .*none.csv do not exist"):
        read_class_table(tmp_path / "none.csv")


def test_audiosets_own_table() -> None:
    path = Path(__file__).parents[3].parent / "shared" / "reference" / "audioset_classes.csv"
    if not path.is_file():
        pytest.skip("AudioSet's table is not here")
    table = read_class_table(path)
    assert len(table.names) == 527
    assert table.names[0] == "Speech"
