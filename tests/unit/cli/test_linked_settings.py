"""U4: what the data module decides is refused under ``model``, wherever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.cli.trainer import SSLAMCLI

MODEL = ["--model", "sslam_lightning.FinetuneModule"]


@pytest.mark.parametrize("form", ["--model.{}", "--model.init_args {{{}}}", "--config {{model.init_args.{}}}"])
@pytest.mark.parametrize("setting", ["num_classes: 7", "multi_label: false", "class_names: [a,b]", "resampler: soxr"])
def test_every_setting_of_the_data_is_refused(setting: str, form: str) -> None:
    name = setting.split(":")[0]
    words = form.format(setting.replace(": ", "=") if form == "--model.{}" else setting).split(" ", 1)
    with pytest.raises(ValueError, match=rf"^model\.{name} comes from the data: leave it out, or set it for the data"):
        SSLAMCLI([*MODEL, *words], run=False)


def test_in_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {class_path: sslam_lightning.FinetuneModule, init_args: {num_classes: 7}}\n")
    with pytest.raises(ValueError, match=r"^model\.num_classes comes from the data"):
        SSLAMCLI(["--config", str(path)], run=False)
