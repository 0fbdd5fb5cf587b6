"""What EAT and data2vec 2.0 begin with, parameter by parameter."""

from __future__ import annotations

import pytest
import torch
from initial_weights import assert_same_initial_weights
from recipes import layer_targets, recipe_state
from reference_data import case_names
from torch import Tensor

from sslam_lightning.checkpoints import from_fairseq
from sslam_lightning.checkpoints.formats.fairseq import rename
from sslam_lightning.features import LogMels
from sslam_lightning.losses import ReconstructionLoss
from sslam_lightning.models import ConvDecoderConfig
from sslam_lightning.training import PretrainModule

_CASES = case_names("initial_weights_eat*", "initial_weights_sslam*", "initial_weights_data2vec2_*")


@pytest.mark.parametrize("name", _CASES)
def test_initial_weights_are_drawn_as_published(name, reference):
    """D11."""
    case = reference.case(name)
    cfg, public = case["cfg"], case["per_parameter"]
    weights = from_fairseq(recipe_state({key: numbers["shape"] for key, numbers in public.items()}), cfg, name)
    assert not weights.unused
    decoder = weights.decoder_config
    assert isinstance(decoder, ConvDecoderConfig)
    places = {key: _our_place(key) for key in public}

    def construct() -> dict[str, Tensor]:
        module = PretrainModule(
            weights.encoder,
            decoder,
            features=None if weights.encoder.front_end else LogMels(),
            targets=layer_targets(cfg, weights.encoder.depth),
            reconstruction=ReconstructionLoss() if cfg["recon_loss"] else None,
            teacher_parts="blocks" if cfg["ema_encoder_only"] else "encoder",
        )
        student = dict(module.student.named_parameters())
        for key, value in module.teacher.encoder.named_parameters():
            assert torch.equal(value, student[key]), key
        parts = {"encoder": module.student, "decoder": module.decoder, "reconstruction": module.reconstruction_head}
        return {key: parts[part].get_parameter(place) for key, (part, place) in places.items()}

    assert_same_initial_weights(case, construct)


def _our_place(public: str) -> tuple[str, str]:
    """The part and the name of ours that has a public parameter's weights."""
    ((part, renamed),) = ((part, names) for part, names in rename({public: torch.zeros(())})[0].items() if names)
    (place,) = renamed
    return part, place
