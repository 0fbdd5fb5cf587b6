"""MAE-AST on patches and frames: both losses, gradients, targets, features of encoder and decoder."""

from __future__ import annotations

import pytest
import torch
from recipes import RecordedMasks, log_mel_batch, recipe_state
from reference_data import case_names

from sslam_lightning.checkpoints import from_mae_ast, load_strictly
from sslam_lightning.checkpoints.mae_ast import rename
from sslam_lightning.training import MAEASTModule

_CASES = case_names("mae_ast_*")


class FromLogMels(MAEASTModule):
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
    theirs = torch.tensor(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("name", _CASES)
def test_losses_gradients_and_features_equal_the_public_ones(name, reference, monkeypatch):
    arrays, case = reference.arrays(name), reference.case(name)
    weights = from_mae_ast(_public_state(case), case["cfg"], name)
    assert not weights.unused
    module = FromLogMels(
        weights.encoder, weights.decoder_config, masking=RecordedMasks([torch.tensor(arrays["mask"]).bool()])
    )
    for part, ours, state in (
        ("student", module.student, weights.student),
        ("decoder", module.decoder, weights.decoder),
        ("reconstruction head", module.reconstruction_head, weights.reconstruction),
        ("contrast head", module.contrast_head, weights.contrast),
    ):
        load_strictly(ours, state, part, name)
    logged, compared = {}, {}
    monkeypatch.setattr(module, "log", lambda key, value, **_: logged.update({key: float(value.detach())}))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    reconstruct = module.reconstruction
    monkeypatch.setattr(
        module, "reconstruction", lambda guess, wanted: compared.update(w=wanted) or reconstruct(guess, wanted)
    )
    batch = log_mel_batch(torch.tensor(arrays["source"]))

    module.training_step(batch, 0).backward()

    assert logged["train/loss"] == pytest.approx(case["total"], rel=1e-4)
    weight = case["weights"]
    assert logged["train/loss_reconstruction"] == pytest.approx(weight["reconstruction"] * case["loss_recon"], rel=1e-4)
    assert logged["train/loss_info_nce"] == pytest.approx(weight["classification"] * case["loss_info_nce"], rel=1e-4)
    _close(compared["w"][:, ::5], arrays["targets_sub"])

    for public, norm in case["grad_norm"].items():
        assert _gradient(module, public, case).norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), public

    module.eval()
    with torch.no_grad():
        tokens = module.student(batch.waveforms).tokens
        _close(tokens, arrays["features"])
        _close(module.decoder.refine(tokens)[:, ::3], arrays["decoder_features_sub"])


def _gradient(module: MAEASTModule, public: str, case: dict) -> torch.Tensor:
    """Of a parameter by its public name; queries, keys and values are thirds of one of ours."""
    third = next((n for n, each in enumerate("qkv") if f".{each}_proj." in public), None)
    names = [public.replace(f"{'qkv'[third]}_proj", f"{each}_proj") for each in "qkv"] if third is not None else [public]
    parts, _ = rename({name: torch.zeros(1) for name in names}, case["cfg"]["layer_norm_first"])
    ((part, renamed),) = ((p, n) for p, n in parts.items() if n)
    ours = {
        "encoder": module.student,
        "decoder": module.decoder,
        "reconstruction": module.reconstruction_head,
        "contrast": module.contrast_head,
    }
    gradient = ours[part].get_parameter(next(iter(renamed))).grad
    return gradient if third is None else gradient.chunk(3)[third]


def test_some_cases_were_found():
    assert _CASES
