"""Complaints of the tools are one line that names what came, what was expected, and where to read on."""

from __future__ import annotations

import pytest

from sslam_lightning.__main__ import main


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("tag x.wav --modle y", "unrecognized arguments: --modle y: did you mean --model? (see sslam tag --help)"),
        ("data scan folder --outt=x", "unrecognized arguments: --outt=x: did you mean --out? (see sslam data scan --help)"),
        ("export x --formt onnx", "unrecognized arguments: --formt onnx: did you mean --format? (see sslam export --help)"),
        (
            "benchmark data --work 1",
            "unrecognized arguments: --work 1: did you mean --workers? (see sslam benchmark data --help)",
        ),
        ("evaluate --sedes 3", "unrecognized arguments: --sedes 3: did you mean --seeds? (see sslam evaluate --help)"),
        ("evaluate --folds 1", "unrecognized arguments: --folds 1 (see sslam evaluate --help)"),
        (
            "evaluate --seeds many",
            "Parser key \"seeds\" element 1: Expected a <class 'int'>. Got value: many (see sslam evaluate --help)",
        ),
        ("data scan", "the following arguments are required: folder (see sslam data scan --help)"),
        ("data import ast", "the following arguments are required: file (see sslam data import ast --help)"),
        ("data scan a b", "unrecognized arguments: b (see sslam data scan --help)"),
        ("data scna x", "there is no command scna, only scan, check, import, stats, pack (see sslam data --help)"),
        (
            "export x --format foo",
            "Parser key \"format\": Expected a typing.Literal['onnx', 'torch-export']. Got value: foo "
            "(see sslam export --help)",
        ),
        ("tag x --top many", "Parser key \"top\": Expected a <class 'int'>. Got value: many (see sslam tag --help)"),
        (
            "data scan folder --workers many",
            "Parser key \"workers\": Expected a <class 'int'>. Got value: many (see sslam data scan --help)",
        ),
    ],
)
def test_a_complaint(words: str, line: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"sslam: error: {line}\n"


def test_a_group_lists_its_commands(capsys) -> None:
    for words, code in ((["data"], 2), (["data", "--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == code
        told = capsys.readouterr().out
        assert all(f"\n  {name} " in told for name in ("scan", "check", "import", "stats", "pack"))
