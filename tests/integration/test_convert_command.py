"""``sslam convert`` as a user types it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sslam_lightning.__main__ import main
from sslam_lightning.checkpoints import Weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.models import ConvDecoder, ConvDecoderConfig, Encoder, EncoderConfig

ENCODER = EncoderConfig(dim=16, depth=1, num_heads=2, mlp_ratio=2.0)
DECODER = ConvDecoderConfig(dim=16, depth=1, groups=4)


@pytest.fixture
def source(tmp_path) -> Path:
    """A pre-trained model of the public trainer, with a key that is no part of it."""
    encoder, teacher, decoder = Encoder(ENCODER), Encoder(ENCODER), ConvDecoder(DECODER, 16)
    states = (module.state_dict() for module in (encoder, teacher, decoder))
    student, teacher_state, decoder_state = states
    write_weights(Weights("", ENCODER, student, teacher_state, DECODER, decoder_state), tmp_path / "plain.pt", "fairseq")
    content = torch.load(tmp_path / "plain.pt", weights_only=True)
    content["model"]["center"] = torch.zeros(1, 16)
    torch.save(content, tmp_path / "source.pt")
    return tmp_path / "source.pt"


def sslam(*args: object) -> None:
    main(["convert", *map(str, args)])


def test_what_is_said(source: Path, tmp_path, capsys) -> None:
    sslam(source, tmp_path / "safetensors")
    assert capsys.readouterr().out == (
        f"wrote {tmp_path / 'safetensors'}\nnot used, no part of a model has such keys: center\n"
    )
    sslam(tmp_path / "safetensors", tmp_path / "hf", "--to", "eat_hf", "--part=teacher")
    assert capsys.readouterr().out == (f"wrote {tmp_path / 'hf'}\nleft out, the form eat_hf has no place for it: decoder\n")
    kept = load_file(tmp_path / "safetensors" / "model.safetensors")["teacher.cls_token"]
    assert torch.equal(load_file(tmp_path / "hf" / "model.safetensors")["model.extra_tokens"], kept)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing.pt", "x"], "no checkpoint at nothing.pt"),
        (["SOURCE", "SOURCE"], "source.pt exists already: move it, or name another target"),
        (["SOURCE", "x", "--part", "third"], "third"),
        (["SOURCE", "x", "--to", "onnx"], "onnx"),
        (["SOURCE"], "target"),
    ],
)
def test_what_is_refused(source: Path, tmp_path, capsys, monkeypatch, args: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as left:
        sslam(*(source if arg == "SOURCE" else arg for arg in args))
    assert left.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before


def test_help_needs_no_torch(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sslam_lightning.checkpoints", None)
    with pytest.raises(SystemExit) as left:
        sslam("--help")
    assert left.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "source fairseq's .pt file of an EAT or SSLAM, a .ckpt file of this project" in printed
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "sslam convert SOURCE TARGET" in capsys.readouterr().out
