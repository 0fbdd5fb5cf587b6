from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.data.manifests.class_map import ClassTable, read_class_table


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


FSD50K = "0,Accelerating_and_revving,/m/07q2z82\n1,Accordion,/m/0mkg\n2,Applause,/t/dd00038\n"


@pytest.mark.parametrize("header", ["", "index,name,mid\n", "Index, Name, MID\n"])
def test_fsd50ks_vocabulary(tmp_path: Path, header: str) -> None:
    """U8: names before mids, with a header or as it is handed out, without one."""
    table = read(tmp_path, header + FSD50K)
    assert table.names == ("Accelerating_and_revving", "Accordion", "Applause")
    assert table.class_of["/m/0mkg"] == table.class_of["Accordion"] == 1
    assert len(table.class_of) == 6


@pytest.mark.parametrize(
    "text",
    [
        "mid,display_name,index\n/m/b,Bee,1\n/m/a,Ape,0\n",
        "display_name\tindex\tmid\nApe\t0\t/m/a\nBee\t1\t/m/b\n",
        "count,name,label,class_id\n17,Ape,/m/a,0\n0,Bee,/m/b,1\n",
        "id,index,name\n/m/a,0,Ape\n/m/b,1,Bee\n",
        "Class Index,Class Name,mid\n0,Ape,/m/a\n1,Bee,/m/b\n",
        "number,what,mid,name\n0,1,/m/a,Ape\n1,0,/m/b,Bee\n",
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, text: str) -> None:
    """U8: in any order, among others, and whatever else holds numbers."""
    table = read(tmp_path, text)
    assert table.names == ("Ape", "Bee")
    assert table.class_of == {"Ape": 0, "/m/a": 0, "Bee": 1, "/m/b": 1}


@pytest.mark.parametrize(
    "text",
    [
        "filename,fold,target,category,esc10,src_file,take\n1-a.wav,1,1,cat,False,100032,A\n"
        "1-b.wav,2,0,dog,True,100038,A\n2-c.wav,1,1,cat,True,100210,B\n",  # ESC-50's meta/esc50.csv
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n1.wav,1,0.0,0.3,1,5,0,dog\n2.wav,1,0.0,4.0,2,3,1,cat\n",
        "label,index\ndog,0\ncat,1\n",
        "label_id\tlabel_name\n1\tcat\n0\tdog\n",
        "label,name\n0,dog\n1,cat\n",  # a header whose numbers are called otherwise: as without one
    ],
)
def test_tables_of_other_data_sets(tmp_path: Path, text: str) -> None:
    """U8: ESC-50 and UrbanSound8K have a row a clip, the class in each."""
    table = read(tmp_path, text)
    assert table.names == ("dog", "cat")
    assert table.class_of == {"dog": 0, "cat": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,target,category\na.wav,0,dog\nb.wav,0,cat\n", "line 3: class 0 comes twice, as 'dog' and 'cat'"),
        ("index,name,mid\n0,Ape,/m/a\n1,Bee\n", r"line 3: expected index,name,mid, got \['1', 'Bee'\]"),
        ("people crowd,404\nplaying bass,17\n", "numbered from 0 without a gap"),  # VGGSound's counts of clips
        ("# ID, start, end, labels\nabc, 0.0, 10.0, /m/a\n", "line 2: expected index,mid,name"),
    ],
)
def test_what_is_no_table_of_classes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
