from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.cli.command_line import CommandLine, Place

FIRST = "model: {class_path: A, init_args: {encoder: {dim: x}, weight: 1}}\ntrainer: {callbacks: [{init_args: {top: 3}}]}"
SECOND = "model: {init_args: {encoder: {dim: 8}, loss: {weight: 2}}}"


@pytest.fixture
def given(tmp_path: Path) -> CommandLine:
    (tmp_path / "a=1.yaml").write_text(FIRST)
    (tmp_path / "b.yaml").write_text(SECOND)
    words = ["fit", "--config", "a=1.yaml", "-c=b.yaml", "--model.loss.weight=5", "--trainer.top", "9", "--data+", "D"]
    return CommandLine(words, tmp_path)


def test_options_and_their_values(given: CommandLine) -> None:
    assert given.options() == [
        ("config", "a=1.yaml"),
        ("c", "b.yaml"),
        ("model.loss.weight", "5"),
        ("trainer.top", "9"),
        ("data", "D"),
    ]


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("weight", "5", Place("model.loss.weight")),
        ("weight", "2", Place("model.loss.weight", "b.yaml")),
        ("weight", "1", Place("model.weight", "a=1.yaml")),
        ("weight", None, Place("model.loss.weight")),  # the last word
        ("encoder.dim", "x", Place("model.encoder.dim", "a=1.yaml")),
        ("encoder.dim", "y", Place("model.encoder.dim", "b.yaml")),
        ("top", None, Place("trainer.callbacks.top", "a=1.yaml")),  # an option of the trainer is known by its whole key
        ("trainer.top", None, Place("trainer.top")),
        ("nowhere", None, Place("nowhere")),
    ],
)
def test_where_a_setting_was_given(given: CommandLine, key: str, value: str | None, place: Place) -> None:
    assert given.place(key, value) == place


def test_an_overlay_needs_a_class_before_it(given: CommandLine) -> None:
    def overlay(*words: str) -> str | None:
        return CommandLine(words, given.folder).overlay_without_recipe()

    assert overlay("-c", "b.yaml") == "b.yaml"
    assert overlay("-c", "b.yaml", "--model", "A") == "b.yaml"
    assert overlay("-c", "b.yaml", "-c", "a=1.yaml") == "b.yaml"
    assert overlay("-c", "a=1.yaml", "-c", "b.yaml") is None
    assert overlay("-c", FIRST, "-c", "b.yaml") is None
    assert overlay("--model", "A", "-c", "b.yaml") is None
    assert overlay("-c", "absent.yaml") is None
