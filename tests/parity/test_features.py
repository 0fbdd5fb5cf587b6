"""All blocks of the encoder on clips of two lengths, and DINO's cross entropy."""

from __future__ import annotations

import pytest
import torch
from recipes import recipe_input, recipe_state, recipe_tensor
from reference_data import case_names

from sslam_lightning.checkpoints import from_fairseq, load_state_dict_strict, read_weights
from sslam_lightning.losses import DINOLoss
from sslam_lightning.models import Encoder

_CASES = case_names("eat_*features*")
_CHECKPOINTS = case_names("fairseq_*_expected")  # outputs of the file of that name in checkpoints


def _close(ours: torch.Tensor, theirs) -> None:
    theirs = torch.tensor(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("name", _CASES)
def test_features_equal_the_public_ones(name, reference):
    case, arrays = reference.case(name), reference.arrays(name)
    weights = from_fairseq(recipe_state(case["parameters"]), {"num_heads": 12}, name)
    encoder = Encoder(weights.encoder).eval()
    load_state_dict_strict(encoder, weights.student, "student", name)
    log_mels = recipe_input(case["seed"], (case["batch"], 1, case["frames"], 128)).squeeze(1)
    with torch.no_grad():
        encoded = encoder.encode(encoder.embed(log_mels), keep_layers=len(encoder.blocks))
    layers = torch.stack(encoded.hidden_states)
    _close(encoded.cls, arrays["cls"])
    _close(encoded.tokens.mean(dim=1), arrays["patch_mean"])
    _close(torch.cat([encoded.cls[:, None], encoded.tokens], dim=1)[:, ::37, ::16], arrays["tokens_sub"])
    _close(layers.mean(dim=2), arrays["layer_results_mean"])
    # The recording counts the CLS token as the first of its tokens; ours leaves it out of the layers.
    _close(layers[:, 0, 63::64, ::64], arrays["layer_results_sub"][:, 1:])


@pytest.mark.parametrize("name", _CHECKPOINTS)
def test_a_public_checkpoint_opens_and_encodes(name, reference):
    weights = read_weights(reference.file(f"checkpoints/{name.removesuffix('_expected')}.pt"))
    arrays = reference.arrays(name)
    assert not weights.unused
    log_mels = torch.tensor(arrays["spectrogram"]).reshape(-1, *arrays["spectrogram"].shape[-2:])
    for part, state in (("student", weights.student), ("teacher", weights.teacher)):
        encoder = Encoder(weights.encoder).eval()
        load_state_dict_strict(encoder, state, part, weights.source)
        with torch.no_grad():
            encoded = encoder(log_mels)
        ours = torch.cat([encoded.cls[:, None], encoded.tokens], dim=1)
        _close(ours, arrays[f"{part}_tokens"].reshape(ours.shape))


@pytest.mark.parametrize("name", case_names("dino_loss*"))
def test_dino_equals_the_public_function(name, reference):
    case = reference.case(name)
    student, teacher = (recipe_input(case[who]["seed"], case[who]["shape"]) for who in ("student", "teacher"))
    dino = DINOLoss(
        student_temperature=case["temperature_student"],
        teacher_temperature=case["temperature_teacher"],
        reduction="mean",
    )
    loss = dino.compare(student, teacher, recipe_tensor("center", case["center"]["shape"]))
    assert loss.item() == pytest.approx(case["loss"], rel=1e-4)
