"""Complaints of the tools are one line that names what came, what was expected, and where to read on."""

from __future__ import annotations

import pytest

from sslam_lightning.__main__ import main


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("tag x.wav --modle y", "there is no option --modle: did you mean --model? (see sslam tag --help)"),
        ("data scan folder --outt=x", "there is no option --outt: did you mean --out? (see sslam data scan --help)"),
        ("export x --formt onnx", "there is no option --formt: did you mean --format? (see sslam export --help)"),
        ("benchmark data --work 1", "there is no option --work: did you mean --workers? (see sslam benchmark data --help)"),
        ("evaluate --seeds.x 3", "there is no option --seeds.x: did you mean --seeds? (see sslam evaluate --help)"),
        ("evaluate --seeds many", "seeds must be of type int, got many (see sslam evaluate --help)"),
        ("evaluate --sedes 3", "there is no option --sedes: did you mean --seeds? (see sslam evaluate --help)"),
        (
            "evaluate --model a --suite esc10 --model=b",
            "the option --model is given twice, of which one would be dropped: give it once (see sslam evaluate --help)",
        ),
        ("evaluate --folds 1", "there is no option --folds (see sslam evaluate --help)"),
        ("embed x --device.index=3", "there is no option --device.index: did you mean --device? (see sslam embed --help)"),
        ("data scan", "folder is missing (see sslam data scan --help)"),
        ("data import ast", "file is missing (see sslam data import ast --help)"),
        ("data scan a b", "unexpected b (see sslam data scan --help)"),
        ("data scna x", "there is no command scna, only scan, check, import, stats, pack (see sslam data --help)"),
        ("data", "a command is missing: one of scan, check, import, stats, pack (see sslam data --help)"),
        ("export x --format foo", "format must be one of onnx, torch-export, got foo (see sslam export --help)"),
        ("tag x --top many", "top must be of type int, got many (see sslam tag --help)"),
        ("data scan folder --workers many", "workers must be of type int, got many (see sslam data scan --help)"),
    ],
)
def test_a_complaint(words: str, line: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"sslam: error: {line}\n"
