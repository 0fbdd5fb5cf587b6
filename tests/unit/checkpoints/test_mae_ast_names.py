"""Names of data2vec 2.0's other modalities and of MAE-AST, and front-ends in our own files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sslam_lightning
from sslam_lightning.checkpoints import from_mae_ast, load_state_dict_strict, read_weights
from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.models import (
    Encoder,
    EncoderConfig,
    SpectrogramTokensConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
)

ENCODER = EncoderConfig(
    dim=8, depth=2, num_heads=2, norm_eps=1e-5, cls_token=False, front_end=SpectrogramTokensConfig(2, 128)
)
CFG = {
    **{"ast_kernel_size_time": 2, "ast_kernel_size_chan": 128, "ast_kernel_stride_time": 2, "ast_kernel_stride_chan": 128},
    **{"encoder_layers": 2, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2},
    **{"decoder_layers": 1, "decoder_embed_dim": 8, "enc_sine_pos": True, "dec_sine_pos": True, "layer_norm_first": False},
}
TASK = {"_name": "mae_ast_pretraining", "sample_rate": 16000, "feature_type": "fbank", "feature_dim": 128, "deltas": False}


def public_names(encoder: dict[str, torch.Tensor], decoder: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state with MAE-AST's names; queries, keys and values apart."""
    theirs = {"proj": "out_proj", "norm1": "self_attn_layer_norm", "norm2": "final_layer_norm"}
    state = {}
    for part, weights in (("encoder", encoder), ("decoder", decoder)):
        for name, value in weights.items():
            words = name.split(".")
            if words[0] == "front_end":
                state[f"{'post_extract_proj' if words[1] == 'proj' else 'batch_norm'}.{words[2]}"] = value
            elif name == "mask_token":
                state["decoder_mask_emb"] = value
            elif words[0] == "input_norm":
                state[f"{part}.layer_norm.{words[1]}"] = value
            elif words[2] == "attn" and words[3] == "qkv":
                for each, third in zip("qkv", value.chunk(3), strict=True):
                    state[f"{part}.layers.{words[1]}.self_attn.{each}_proj.{words[4]}"] = third
            elif words[2] == "attn":
                state[f"{part}.layers.{words[1]}.self_attn.out_proj.{words[4]}"] = value
            else:
                state[f"{part}.layers.{words[1]}.{theirs.get(words[2], words[-2])}.{words[-1]}"] = value
    return state


def mae_ast() -> tuple[Encoder, TransformerDecoder, dict[str, torch.Tensor]]:
    encoder = Encoder(ENCODER)
    decoder = TransformerDecoder(TransformerDecoderConfig(dim=8, depth=1, num_heads=2), 8)
    heads = {
        f"final_proj_{head}.{name}": value
        for head in ("reconstruction", "classification")
        for name, value in torch.nn.Linear(8, 256).state_dict().items()
    }
    return encoder, decoder, {**public_names(encoder.state_dict(), decoder.state_dict()), **heads}


def test_mae_ast_comes_back_whole(tmp_path) -> None:
    encoder, decoder, state = mae_ast()
    cfg = {"model": CFG, "task": TASK, "criterion": {"_name": "mae_ast", "reconstruction_weight": 10.0}}
    torch.save({"model": {**state, "more": torch.zeros(1)}, "cfg": cfg}, tmp_path / "a.pt")
    weights = read_weights(tmp_path / "a.pt")
    assert weights.encoder == ENCODER
    assert weights.decoder_config == decoder.config
    assert weights.unused == ("more",)
    load_state_dict_strict(Encoder(weights.encoder), weights.student, "student", "a file")
    for ours, theirs in ((encoder, weights.student), (decoder, weights.decoder)):
        assert ours.state_dict().keys() == theirs.keys()
        for name, value in ours.state_dict().items():
            assert torch.equal(theirs[name], value), name
    assert torch.equal(weights.contrast["bias"], state["final_proj_classification.bias"])
    assert torch.equal(weights.reconstruction["bias"], state["final_proj_reconstruction.bias"])


@pytest.mark.parametrize(
    "missing",
    ["post_extract_proj.bias", "decoder_mask_emb", "encoder.layers.0.fc1.bias", "encoder.layers.1.self_attn.k_proj.bias"],
)
def test_other_models_are_refused(missing: str) -> None:
    state = mae_ast()[2]
    del state[missing]
    named = {"post_extract_proj.bias": "front_end.proj.bias", "decoder_mask_emb": "mask_token"}
    named["encoder.layers.0.fc1.bias"] = "blocks.0.mlp.fc1.bias"
    with pytest.raises(
        ValueError, match=rf"a file is not a MAE-AST checkpoint: '{named.get(missing, missing)}' is missing"
    ):
        from_mae_ast(state, CFG, "a file")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "ast_kernel_stride_time", 1),
        ("model", "ast_kernel_stride_chan", 64),
        ("model", "activation_fn", "gelu_accurate"),
        ("model", "enc_sine_pos", False),
        ("model", "enc_sine_pos", None),  # None: the key is missing, and the public code's value is another
        ("model", "dec_sine_pos", None),
        ("model", "enc_conv_pos", True),
        ("model", "dec_conv_pos", True),
        ("model", "use_post_enc_proj", True),
        ("model", "encoder_layers", 3),
        ("model", "decoder_embed_dim", 16),
        ("model", "encoder_attention_heads", "2"),
        ("model", "encoder_layer", 2),
        ("task", "feature_type", "spectrogram"),
        ("task", "feature_type", None),
        ("task", "feature_dim", 100),
        ("task", "feature_dim", None),
        ("task", "deltas", True),
        ("task", "deltas", None),
        ("task", "sample_rate", None),
        ("task", "window_type", "hanning"),
        ("criterion", "hidden_weight", 1.0),
    ],
)
def test_keys_that_are_not_computed_or_not_known_are_refused_by_name(section: str, key: str, value, tmp_path) -> None:
    """D1 and the configuration keys of MAE-AST."""
    cfg = {"model": dict(CFG), "task": dict(TASK), "criterion": {}}
    cfg[section].pop(key, None)
    cfg[section] |= {} if value is None else {key: value}
    torch.save({"model": mae_ast()[2], "cfg": cfg}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"a\.pt: .*cfg\.{section}\.{key}\b") as raised:
        read_weights(tmp_path / "a.pt")
    assert len(str(raised.value).splitlines()) == 1


def test_other_sizes_of_log_mels_are_those_of_the_file() -> None:
    cfg = CFG | {"ast_kernel_size_chan": 32, "ast_kernel_stride_chan": 32}
    encoder = replace(ENCODER, front_end=SpectrogramTokensConfig(2, 32, 64))
    state = public_names(Encoder(encoder).state_dict(), mae_ast()[1].state_dict())
    weights = from_mae_ast(state, cfg, "a file", TASK | {"feature_dim": 64, "sample_rate": 8000})
    assert weights.encoder == encoder
    expected = replace(MAE_AST_LOG_MELS, num_mels=64, sample_rate_hz=8000, patch_frames=2)
    assert LogMels(**weights.features) == expected


def test_a_file_that_says_nothing_of_its_log_mels_is_given_none(tmp_path) -> None:
    """D1: no default of ours takes their place."""
    torch.save({"model": mae_ast()[2], "cfg": {"model": CFG}}, tmp_path / "a.pt")
    assert read_weights(tmp_path / "a.pt").features is None
    with pytest.raises(ValueError, match=r"a\.pt does not say which mean and std its log-mels were normalized by: set"):
        sslam_lightning.from_pretrained(tmp_path / "a.pt")
    assert sslam_lightning.from_pretrained(tmp_path / "a.pt", features={"mean": 0.0, "std": 0.5}).features.mean == 0.0


def test_a_front_end_that_is_not_known_is_not_imported(tmp_path) -> None:
    front_end = {"class_path": "os.system", "init_args": {"command": "true"}}
    encoder = {"dim": 8, "depth": 1, "num_heads": 2, "front_end": front_end}
    state = {f"student.{name}": value for name, value in Encoder(ENCODER).state_dict().items()}
    checkpoint = {"pytorch-lightning_version": "2", "state_dict": state, "hyper_parameters": {"encoder": encoder}}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"encoder.front_end: 'os.system' is not among .*SpectrogramTokens"):
        read_weights(tmp_path / "a.ckpt")
