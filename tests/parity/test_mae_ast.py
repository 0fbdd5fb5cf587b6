"""MAE-AST on patches and frames: losses, gradients, targets, features of encoder and decoder; waveforms to features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from initial_weights import assert_same_initial_weights
from recipes import RecordedMasks, log_mel_batch, recipe_state
from reference_data import case_names

import sslam_lightning
from sslam_lightning.checkpoints import from_mae_ast, load_state_dict_strict, open_encoder, read_weights
from sslam_lightning.checkpoints.formats.mae_ast import rename
from sslam_lightning.features import LogMels
from sslam_lightning.inference import AudioModel
from sslam_lightning.losses import InfoNCE, ReconstructionLoss
from sslam_lightning.models import EncoderConfig, SpectrogramTokensConfig, TransformerDecoderConfig
from sslam_lightning.training import FinetuneModule, PretrainModule

_CASES = case_names("mae_ast_*")
_FRONT_ENDS = case_names("mae_ast_front_end*")
MAE_AST = {
    "masks_per_clip": 1,
    "ema": None,
    "regression": None,
    "utterance": None,
    "reconstruction": ReconstructionLoss(weight=10.0, scale="mean", normalize=False),
    "info_nce": InfoNCE(),
}


class FromLogMels(PretrainModule):
    """The real module, fed with recorded log-mels in place of waveforms."""

    def log_mels(self, batch):
        return batch.waveforms


def _public_state(case: dict) -> dict[str, torch.Tensor]:
    """The recipe's weights; batch norm statistics keep the values that they are made with."""
    state = recipe_state(case["parameters"])
    state = {name: value for name, value in state.items() if not name.endswith(".pe")}
    initial = {"running_mean": torch.zeros(1), "running_var": torch.ones(1), "num_batches_tracked": torch.tensor(0)}
    return {**state, **{f"batch_norm.{name}": value for name, value in initial.items()}}


def _close(ours, theirs):
    theirs = torch.as_tensor(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("name", _CASES)
def test_losses_gradients_and_features_equal_the_public_ones(name, reference, monkeypatch):
    arrays, case = reference.arrays(name), reference.case(name)
    weights = from_mae_ast(_public_state(case), case["cfg"], name, case.get("task"))
    assert not weights.unused
    module = FromLogMels(
        weights.encoder,
        decoder=weights.decoder_config,
        masking=RecordedMasks([torch.tensor(arrays["mask"]).bool()]),
        **MAE_AST,
    )
    for part, ours, state in (
        ("student", module.student, weights.student),
        ("decoder", module.decoder, weights.decoder),
        ("reconstruction head", module.reconstruction_head, weights.reconstruction),
        ("contrast head", module.contrast_head, weights.contrast),
    ):
        load_state_dict_strict(ours, state, part, name)
    logged, compared = {}, {}
    monkeypatch.setattr(module, "log", lambda key, value, **_: logged.update({key: float(value.detach())}))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    losses = module.losses
    monkeypatch.setattr(module, "losses", lambda output: compared.update(values=output.masked_values) or losses(output))
    batch = log_mel_batch(torch.tensor(arrays["source"]))

    module.training_step(batch, 0).backward()

    assert logged["train/loss"] == pytest.approx(case["total"], rel=1e-4)
    weight = case["weights"]
    assert logged["train/loss/reconstruction"] == pytest.approx(weight["reconstruction"] * case["loss_recon"], rel=1e-4)
    assert logged["train/loss/info_nce"] == pytest.approx(weight["classification"] * case["loss_info_nce"], rel=1e-4)
    _close(compared["values"][:, ::5], arrays["targets_sub"])

    for public, norm in case["grad_norm"].items():
        gradient = _parameter(module, public, case["cfg"]["layer_norm_first"], "grad")
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public

    module.eval()
    with torch.no_grad():
        tokens = module.student(batch.waveforms).tokens
        _close(tokens, arrays["features"])
        _close(module.decoder.refine(tokens)[:, ::3], arrays["decoder_features_sub"])


def _parameter(module: PretrainModule, public: str, pre_norm: bool, what: str = "data") -> torch.Tensor:
    """A parameter's values or gradient by its public name; queries, keys and values are thirds of one of ours."""
    third = next((n for n, each in enumerate("qkv") if f".{each}_proj." in public), None)
    names = [public.replace(f"{'qkv'[third]}_proj", f"{each}_proj") for each in "qkv"] if third is not None else [public]
    parts, _ = rename({name: torch.zeros(1) for name in names}, pre_norm)
    ((part, renamed),) = ((p, n) for p, n in parts.items() if n)
    ours = {
        "encoder": module.student,
        "decoder": module.decoder,
        "reconstruction": module.reconstruction_head,
        "contrast": module.contrast_head,
    }
    found = getattr(ours[part].get_parameter(next(iter(renamed))), what)
    return found if third is None else found.chunk(3)[third]


def _public_file(folder: Path, case: dict) -> Path:
    """A file of the public trainer, with the batch norm's statistics that the case tells."""
    statistics = case.get("front_end", {}).get("batch_norm", {})
    state = {**_public_state(case), **{name: torch.tensor(value) for name, value in statistics.items()}}
    torch.save({"model": state, "cfg": {"model": case["cfg"], "task": case["task"]}}, folder / "mae_ast.pt")
    return folder / "mae_ast.pt"


def _waveforms(arrays: dict) -> list[torch.Tensor]:
    names = sorted(name for name in arrays if name.startswith("waveform_"))
    assert len(names) > 1
    return [torch.from_numpy(arrays[name]).float() / 32768 for name in names]


@pytest.mark.parametrize("name", _FRONT_ENDS)
def test_a_waveform_becomes_the_public_log_mels_and_features(name, reference, tmp_path):
    """D1: povey window, no mean removed, not normalized, nothing padded; the batch norm's stored statistics."""
    arrays, case = reference.arrays(name), reference.case(name)
    model = sslam_lightning.from_pretrained(_public_file(tmp_path, case))
    assert model.features is not None
    rate_hz = case["front_end"]["sample_rate_hz"]
    for row, waveform in enumerate(_waveforms(arrays)):
        whole = replace(model.features, num_frames=case["front_end"]["frames"][row], patch_frames=1)
        log_mels = whole(waveform[None], torch.tensor([len(waveform)]))[0, ::2, ::4]
        torch.testing.assert_close(log_mels, torch.tensor(arrays[f"log_mels_sub_{row}"]), atol=1e-3, rtol=0)
        found = model(waveform, rate_hz)
        _close(found.patches.flatten(0, 1), arrays[f"front_end_features_{row}"].reshape(-1, model.dim))


@pytest.mark.parametrize("name", _FRONT_ENDS)
def test_clips_together_are_what_each_is_alone_or_what_the_s3prl_wrapper_makes_of_them(name, reference, tmp_path):
    """D1: the wrapper fills up the last patch of a shorter clip with zeros, which ``partial_patch: pad`` does too."""
    arrays, case = reference.arrays(name), reference.case(name)
    path, clips = _public_file(tmp_path, case), _waveforms(arrays)
    together, lengths = (
        torch.nn.utils.rnn.pad_sequence(clips, batch_first=True),
        torch.tensor([len(clip) for clip in clips]),
    )
    alone = sslam_lightning.from_pretrained(path).encode(together, lengths)
    tokens = [
        arrays[f"front_end_features_{row}"].reshape(-1, case["cfg"]["encoder_embed_dim"]) for row in range(len(clips))
    ]
    mels = alone.patches.shape[2]
    assert (alone.num_frames * mels).tolist() == [len(theirs) for theirs in tokens]
    for row, theirs in enumerate(tokens):
        _close(alone.patches[row].flatten(0, 1)[: len(theirs)], theirs)
    wrapped = sslam_lightning.from_pretrained(path, features={"partial_patch": "pad"}).encode(together, lengths)
    assert (wrapped.num_frames * mels).tolist() == case["front_end"]["valid_patches_together"]
    theirs = torch.tensor(arrays["front_end_features_together_sub"]).squeeze(0)
    valid = case["front_end"]["valid_patches_together"][1]
    _close(wrapped.patches[1].flatten(0, 1)[:valid], theirs[:valid])


@pytest.mark.parametrize("name", _FRONT_ENDS)
def test_fine_tuning_reads_what_the_file_was_trained_on(name, reference, tmp_path):
    """D1: the same log-mels in fine-tuning, and others are refused by their name."""
    case = reference.case(name)
    path = _public_file(tmp_path, case)
    weights = read_weights(path)
    features = LogMels(**{**weights.features, "num_frames": 64})
    module = FinetuneModule(weights.encoder, features, num_classes=3, pooling="mean")
    module.load_pretrained(str(path))
    log_mels = torch.randn(2, 64, 128) * 4 - 11
    model = AudioModel(sslam_lightning.checkpoints.load_encoder(path), features=features)
    with torch.no_grad():
        assert torch.equal(module.eval().encoder(log_mels).tokens, model.encoder(log_mels).tokens)
    for setting in ("window", "mean", "std"):
        other = replace(features, **{setting: getattr(LogMels(), setting)})
        assert other != features
        with pytest.raises(ValueError, match=rf"features\.{setting} is .*, the configured one is"):
            FinetuneModule(weights.encoder, other, num_classes=3, pooling="mean").load_pretrained(str(path))


@pytest.mark.parametrize("name", case_names("config_key_mae_ast_*"))
def test_keys_that_change_the_arithmetic_are_refused_by_name_or_play_no_part(name, reference, tmp_path):
    """What only the decoder does is nothing to the encoder's features."""
    arrays, case = reference.arrays(name), reference.case(name)
    key, state = case["key"], _public_state(case)
    for purpose in ("init_from", "training"):
        with pytest.raises(ValueError, match=rf"cfg\.model\.{key} is {case['value']!r}, only .* computed here"):
            from_mae_ast(state, case["cfg"], name, case["task"], purpose)
    if not key.startswith("dec_"):
        with pytest.raises(ValueError, match=rf"cfg\.model\.{key} is {case['value']!r}, only"):
            from_mae_ast(state, case["cfg"], name, case["task"], "inference")
        return
    weights = from_mae_ast(state, case["cfg"], name, case["task"], "inference")
    encoder = open_encoder(weights)
    log_mels = torch.tensor(arrays["source"])
    encoder.train()(log_mels)  # the running averages of one step
    with torch.no_grad():
        _close(encoder.eval()(log_mels).tokens, arrays["features"])


@pytest.mark.parametrize("name", case_names("initial_weights_mae_ast*"))
def test_initial_weights_are_drawn_as_the_public_ones(name, reference):
    """D11: the mask token is uniform in [0, 1)."""
    case = reference.case(name)
    cfg = case["cfg"]
    heads, hidden = cfg["encoder_attention_heads"], cfg["encoder_ffn_embed_dim"]
    sizes = {"num_heads": heads, "norm": "pre" if cfg["layer_norm_first"] else "post"}
    encoder = EncoderConfig(
        cfg["encoder_embed_dim"],
        cfg["encoder_layers"],
        mlp_ratio=hidden / cfg["encoder_embed_dim"],
        norm_eps=1e-5,
        cls_token=False,
        front_end=SpectrogramTokensConfig(cfg["ast_kernel_size_time"], cfg["ast_kernel_size_chan"]),
        **sizes,
    )
    dim = cfg["decoder_embed_dim"]
    decoder = TransformerDecoderConfig(dim, cfg["decoder_layers"], mlp_ratio=hidden / dim, **sizes)

    used = [key for key in case["per_parameter"] if key != "encoder_mask_emb" and not key.startswith("layer_norm.")]

    def construct() -> dict[str, torch.Tensor]:
        module = PretrainModule(encoder, decoder=decoder, **MAE_AST)
        return {public: _parameter(module, public, cfg["layer_norm_first"]) for public in used}

    assert_same_initial_weights({**case, "per_parameter": {key: case["per_parameter"][key] for key in used}}, construct)
