"""The READMEs: their commands run (``bash test``), or their settings are valid (``bash``); links and paths exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from prefork import interpreter
from readmes import READMES, ROOT, TEXT, blocks, files

from sslam_lightning.runtime.configs import shipped_configs

_ESC10 = ROOT.parent / "shared" / "data" / "esc10"
_FENCE = re.compile(r"^```(.*)\n(?:.*\n)*?```$", re.MULTILINE)
_KINDS = r"|python|yaml|(?:py|yaml) \S+|bash(?: test| cluster| esc50)?"  # plain bash: not run here


def test_every_readme_is_read():
    found = [path.parent for folder in ("configs", "sslam_lightning") for path in (ROOT / folder).rglob("README.md")]
    assert {path.relative_to(ROOT).as_posix() for path in found} | {"."} == set(READMES)


def test_blocks_are_found():
    text = "a\n```bash test\nsslam --help\n```\nb\n```bash\nrm -rf /\n```\n```bash test\ntrue\n\nfalse\n```\n"
    assert blocks(text) == ["sslam --help\n", "true\n\nfalse\n"]
    assert _FENCE.findall(text) == ["bash test", "bash", "bash test"]
    assert files("```py a.py\nb\n```\n```bash\nc\n```\n") == {"a.py": "b\n"}


@pytest.mark.parametrize("folder", READMES)
def test_a_readme_is_short_and_its_blocks_links_and_paths_are_right(folder):
    text = READMES[folder]
    assert text.count("\n") < 200
    kinds = _FENCE.findall(text)
    assert len(kinds) == text.count("\n```") / 2
    assert [kind for kind in kinds if not re.fullmatch(_KINDS, kind)] == []
    prose = _FENCE.sub("", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith("https://"):
            _check_link(folder, target)
    for name in re.findall(r"--config[ =](?:configs/)?((?:pretrain|finetune|overlays|runs/esc10)/[\w/]+)", text):
        assert name in shipped_configs(), name
    for path in re.findall(r"configs/[\w/]+\.yaml", text):
        assert (ROOT / path).is_file(), path


def _check_link(folder: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    place = (ROOT / folder / path).resolve() if path else (ROOT / folder / "README.md").resolve()
    assert place.exists(), target
    if anchor:
        headings = re.findall(r"^#+ (.*)", (_FENCE.sub("", place.read_text())), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def _run(commands: list[str], tmp_path: Path, **variables: str) -> str:
    """Run all blocks in one shell and in their order, as a reader would type them."""
    assert commands, "the READMEs have no such block"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    # `sslam` and `python` are those of this environment, whether or not it has been activated.
    for name, target in (("sslam", "-m sslam_lightning"), ("python", "")):
        (binaries / name).write_text(f'#!/bin/sh\nexec {shlex.join(interpreter())} {target} "$@"\n')
        (binaries / name).chmod(0o755)
    script = "set -euo pipefail\n" + re.sub(r"(?<![\w/.-])(runs|my)(?=/)", rf"{tmp_path}/\1", "\n".join(commands))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=1800,  # for what hangs
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def _record(folder: Path) -> None:
    """Recordings of a reader: a folder of 24, and folders of two classes to train and to test on."""
    import soundfile

    from sslam_lightning.data import SyntheticDataset

    dataset = SyntheticDataset(24)
    for number in range(len(dataset)):
        kind, split = "ab"[number % 2], "test" if number > 19 else "train"
        for place in ("recordings", f"{split}/{kind}"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / place / f"clip {number}.flac", dataset[number].waveform.numpy(), 16000)


@pytest.mark.slow
def test_the_commands_and_the_python_of_the_readmes_run(tmp_path):
    _record(tmp_path / "my")
    (code,) = blocks(READMES["."], "python")
    (first, *others) = READMES.values()
    python = f"python - <<'END'\n{code}\nprint(encoded.cls.shape)\nEND\n"
    printed = _run([*blocks(first), python, *blocks("\n".join(others))], tmp_path)
    outputs = re.findall(r"^prints\n\n```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert outputs, "the READMEs show no output"
    for output in outputs:
        assert output.replace("runs/", f"{tmp_path}/runs/") in printed


def _words_of(block: str, folder: Path) -> list[list[str]]:
    """What a block gives ``sslam`` to do, without doing it; other programs are left out."""
    others = "".join(f"{name}() {{ :; }}\n" for name in ("pip", "python"))
    listing = f'sslam() {{ printf "%q " "$@"; echo; }}\n{others}torchrun() {{ sslam "$@"; }}\n{block}'
    done = subprocess.run(["bash", "-euc", listing], cwd=folder, capture_output=True, text=True, check=True)
    return [shlex.split(line) for line in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A reader's: with the recipes, and the files that the READMEs show."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, content in files(TEXT).items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_settings_of_commands_that_are_not_run_are_valid(folder):
    from sslam_lightning.cli.fit.settings import SettingsCLI

    commands = [words for block in blocks(TEXT, "bash") for words in _words_of(block, folder)]
    fits = [words for words in commands if words[0] == "fit"]
    assert len(commands) > 25
    assert len(fits) > 5
    for words in fits:
        assert SettingsCLI(words[1:]).settings()["model"]
    for words in commands:
        suites = words[words.index("--suite") + 1 :] if "--suite" in words else []
        for suite in suites[: next((k for k, word in enumerate(suites) if word.startswith("-")), None)]:
            assert (folder / suite).is_file() or (ROOT / f"configs/downstream/{suite}.yaml").is_file(), suite


def test_the_commands_for_a_cluster_make_runs_of_the_published_batch(folder, capsys):
    """Their devices are not here: the settings are understood, the script written, and nothing is started."""
    from sslam_lightning.__main__ import main
    from sslam_lightning.cli.fit.plan import layout_of
    from sslam_lightning.cli.fit.settings import SettingsCLI

    (block,) = blocks(TEXT, "bash cluster")
    *runs, slurm = _words_of(block, folder)
    settings = [SettingsCLI(words[words.index("fit") + 1 :]).settings() for words in runs]
    assert [layout_of(each, []).global_batch for each in settings][1:] == [48, 48, 48]
    assert slurm[0] == "slurm"
    main([word for word in slurm if word != "--submit"])
    assert "global batch: 48 clips" in capsys.readouterr().out
    assert "--submit" in slurm
    written = {path.relative_to(folder).as_posix() for path in folder.glob("runs/*/*")}
    assert len(written) == 1
    assert all(f"writes {path}" in block for path in written)


@pytest.mark.slow
def test_the_whole_method_runs_on_real_recordings(tmp_path):
    """The ESC-50 commands, a few steps each: stage 1, stage 2, fine-tuning, evaluation on the held-out fold; tags."""
    if not _ESC10.is_dir():
        pytest.skip("the recordings of ESC-10 are not here")
    small = "--data.batch_size=4 --data.num_workers=0 --trainer.max_steps=2 --trainer.limit_test_batches=4"
    printed = _run(blocks(TEXT, "bash esc50"), tmp_path, ESC50=str(_ESC10), RUN=str(tmp_path / "esc10"), MORE=small)
    assert "test/accuracy" in printed
    assert (tmp_path / "esc10/finetuned/checkpoints/last.ckpt").is_file()
