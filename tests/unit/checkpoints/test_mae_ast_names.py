"""Names of data2vec 2.0's other modalities and of MAE-AST, and front-ends in our own files."""

from __future__ import annotations

import pytest
import torch

from sslam_lightning.checkpoints import from_mae_ast, load_strictly, read_weights
from sslam_lightning.models import (
    Encoder,
    EncoderConfig,
    SpectrogramTokensConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
)

ENCODER = EncoderConfig(
    dim=8, depth=2, num_heads=2, norm_eps=1e-5, clip_token=False, front_end=SpectrogramTokensConfig(2, 128)
)
CFG = {"ast_kernel_size_time": 2, "ast_kernel_size_chan": 128, "encoder_attention_heads": 2, "layer_norm_first": False}


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
    torch.save({"model": {**state, "more": torch.zeros(1)}, "cfg": {"model": CFG}}, tmp_path / "a.pt")
    weights = read_weights(tmp_path / "a.pt")
    assert weights.encoder == ENCODER
    assert weights.decoder_config == decoder.config
    assert weights.unused == ("more",)
    load_strictly(Encoder(weights.encoder), weights.student, "student", "a file")
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


def test_a_front_end_that_is_not_known_is_not_imported(tmp_path) -> None:
    front_end = {"class_path": "os.system", "init_args": {"command": "true"}}
    encoder = {"dim": 8, "depth": 1, "num_heads": 2, "front_end": front_end}
    state = {f"student.{name}": value for name, value in Encoder(ENCODER).state_dict().items()}
    checkpoint = {"pytorch-lightning_version": "2", "state_dict": state, "hyper_parameters": {"encoder": encoder}}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"encoder.front_end: 'os.system' is not among .*SpectrogramTokens"):
        read_weights(tmp_path / "a.ckpt")
