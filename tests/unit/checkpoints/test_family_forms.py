"""The family's models in our own form, bit for bit, and refused in one line by forms that cannot hold them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sslam_lightning.checkpoints import Weights, convert, load_encoder, read_weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.inference.loading import from_pretrained, load_model
from sslam_lightning.models import (
    ConvPositionsConfig,
    Encoder,
    EncoderConfig,
    ImageConfig,
    SpectrogramTokensConfig,
    Teacher,
    TextConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
    WaveformConfig,
)
from sslam_lightning.models.teacher import TeacherParts

SMALL = {"dim": 16, "depth": 2, "num_heads": 2}
WAVEFORM = WaveformConfig(((8, 10, 5), (8, 3, 2)))
POSITIONS = ConvPositionsConfig(2, 6, 4)
ENCODERS: dict[str, tuple[EncoderConfig, TeacherParts]] = {
    "waveform": (
        EncoderConfig(**SMALL, cls_token=False, front_end=WAVEFORM, conv_positions=POSITIONS, alibi="learned"),
        "context",
    ),
    "text": (EncoderConfig(**SMALL, cls_token=False, front_end=TextConfig(30, 12), alibi="fixed"), "blocks"),
    "image": (EncoderConfig(**SMALL, front_end=ImageConfig(4, 3)), "encoder"),
    "mae_ast": (EncoderConfig(**SMALL, cls_token=False, front_end=SpectrogramTokensConfig(2, 128)), "encoder"),
    "bat": (EncoderConfig(**SMALL, gated_attention=True), "encoder"),
}


def model(name: str) -> Weights:
    torch.manual_seed(0)
    config, parts = ENCODERS[name]
    encoder = Encoder(config)
    teacher = Teacher(encoder, parts).encoder.state_dict()
    of_blocks = TransformerDecoderConfig(dim=8, depth=1, num_heads=2, output_projection=name != "mae_ast")
    decoder = TransformerDecoder(of_blocks, 16).state_dict()
    teacher = {key: value + 1 for key, value in teacher.items()}
    weights = Weights(name, config, encoder.state_dict(), teacher, of_blocks, decoder)
    if name != "mae_ast":
        return weights
    values = encoder.front_end.num_values
    read_outs = (torch.nn.Linear(8, values).state_dict() for _ in range(2))
    return weights._replace(reconstruction=next(read_outs), contrast=next(read_outs))


@pytest.mark.parametrize("name", ENCODERS)
def test_our_form_holds_them(name: str, tmp_path: Path) -> None:
    weights = model(name)
    write_weights(weights, tmp_path / "a", "safetensors")
    back = read_weights(tmp_path / "a")
    assert (back.encoder, back.decoder_config, back.unused) == (weights.encoder, weights.decoder_config, ())
    for part in ("student", "teacher", "decoder", "reconstruction", "contrast"):
        theirs, ours = getattr(back, part) or {}, getattr(weights, part) or {}
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], value) for key, value in ours.items()), part


@pytest.mark.parametrize("name", ENCODERS)
def test_a_teacher_takes_from_the_student_what_it_lacks(name: str, tmp_path: Path) -> None:
    weights = model(name)
    write_weights(weights, tmp_path / "a", "safetensors")
    opened = load_encoder(tmp_path / "a", "teacher")
    for key, value in opened.state_dict().items():
        assert torch.equal(value, (weights.teacher or {}).get(key, weights.student[key])), key
    if opened.alibi is not None:
        assert opened.alibi.slopes.flatten().tolist() == [2.0**-4, 2.0**-8]  # no file has them


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("form", ["fairseq", "eat_hf"])
def test_other_forms_refuse_them(name: str, form: str, tmp_path: Path) -> None:
    write_weights(model(name), tmp_path / "a", "safetensors")
    with pytest.raises(ValueError, match=r"knows no (front_end \w+Config|gated_attention True): convert to safetensors"):
        convert(tmp_path / "a", tmp_path / "b", form)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_heads_that_no_weights_tell_of_are_not_believed(tmp_path: Path) -> None:
    write_weights(model("text"), tmp_path / "a", "safetensors")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    text = json.dumps(config).replace('"num_heads": 2', '"num_heads": 1000000000')
    assert text != json.dumps(config)
    (tmp_path / "a" / "config.json").write_text(text)
    state = load_file(tmp_path / "a" / "model.safetensors")
    save_file({name: weight for name, weight in state.items() if "alibi" not in name}, tmp_path / "a" / "model.safetensors")
    with pytest.raises(ValueError, match=r"student\.alibi\.scale is for 0 heads, the encoder has 1000000000"):
        read_weights(tmp_path / "a")


def test_what_reads_no_sound_is_no_audio_model(tmp_path: Path) -> None:
    write_weights(model("text"), tmp_path / "a", "safetensors")
    with pytest.raises(ValueError, match="a reads text, not sound"):
        from_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=r"a reads text: set tokenizer to the tokenizer.json that it was trained with"):
        load_model(tmp_path / "a")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"layers": [[8, 10, 5]] * 5}, "has 2 front_end.convs, its configuration says 5"),
        ({"layers": [[8, 10], [8, 3, 2]]}, "front_end.layers must be a list of 3, got 2"),
        ({"layers": "eight"}, "front_end.layers must be a list, got 'eight'"),
        ({"layers": [[8, 10, 0], [8, 3, 2]]}, "channels, kernel and stride above 0"),
    ],
)
def test_a_front_end_that_is_none(spoil: dict, message: str, tmp_path: Path) -> None:
    write_weights(model("waveform"), tmp_path / "a", "safetensors")
    path = tmp_path / "a" / "config.json"
    config = json.loads(path.read_text())
    config["encoder"]["front_end"]["init_args"] |= spoil
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "a")
