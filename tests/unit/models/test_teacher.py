from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sslam_lightning.models import Encoder, EncoderConfig, Teacher
from sslam_lightning.types import Grid


def test_it_starts_as_a_copy_that_nothing_is_shared_with(encoder_config: EncoderConfig) -> None:
    student = Encoder(encoder_config)
    teacher = Teacher(student)
    for name, own in teacher.encoder.state_dict().items():
        theirs = student.state_dict()[name]
        assert torch.equal(own, theirs)
        assert own.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize("decay", [0.0, 0.75, 1.0])
def test_it_follows_by_hand(encoder_config: EncoderConfig, decay: float) -> None:
    student = Encoder(encoder_config)
    teacher = Teacher(student)
    before = {name: value.clone() for name, value in teacher.encoder.named_parameters()}
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter)
    goal = {name: value.clone() for name, value in student.named_parameters()}
    teacher.update_ema(student, decay)
    for name, value in teacher.encoder.named_parameters():
        torch.testing.assert_close(value, decay * before[name] + (1 - decay) * goal[name])
    for name, value in student.named_parameters():
        assert torch.equal(value, goal[name])


def test_it_follows_a_student_of_lower_precision_in_its_own(encoder_config: EncoderConfig) -> None:
    student = Encoder(encoder_config)
    teacher = Teacher(student)
    with torch.no_grad():
        student.cls_token.fill_(2.0)
        teacher.encoder.cls_token.fill_(1.0)
    teacher.update_ema(student.bfloat16(), 0.999)
    assert teacher.encoder.cls_token.dtype == torch.float32
    torch.testing.assert_close(teacher.encoder.cls_token, torch.full((1, 1, 16), 1.001))  # 1.0 in bfloat16


def test_it_learns_nothing_and_stays_in_evaluation(encoder_config: EncoderConfig) -> None:
    student = Encoder(encoder_config).train()
    teacher = Teacher(student)
    assert student.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    around = torch.nn.ModuleList([teacher]).train()
    assert around.training
    assert teacher.train() is teacher
    assert not any(module.training for module in teacher.modules())
    teacher.update_ema(student, 0.5)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("alibi", [None, "learned"])
@pytest.mark.parametrize("cls_token", [True, False])
def test_patches_are_left_out_behind_the_prenet(encoder_config: EncoderConfig, cls_token, alibi) -> None:
    """D5: as the public stage 2 does for a mixture's partner, whose patches have met those that are not shared."""
    config = replace(encoder_config, prenet_depth=1, cls_token=cls_token, alibi=alibi)
    student = Encoder(config)
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    teacher, grid = Teacher(student), Grid(3, 2)
    embedded, rows = torch.randn(4, grid.num_patches, config.dim), torch.tensor([2, 0])
    index = torch.tensor([[0, 1, 4, 5], [2, 3, 4, 5]])

    kept = teacher.keep(teacher.prepare_tokens(student, embedded, grid), rows, index)
    layers = teacher.layers(kept, keep_layers=1)[0]

    encoder, first = teacher.encoder, int(cls_token)
    for row, clip in enumerate(rows):
        seen = encoder.prepare_tokens(*encoder.select_tokens(embedded[clip : clip + 1], grid))
        places = torch.tensor([*range(first), *(index[row] + first)])
        bias = None if seen.bias is None else seen.bias[:, :, places][..., places]
        alone = encoder.forward_blocks(seen.tokens[:, places], None, bias, keep_layers=1).hidden_states[0]
        torch.testing.assert_close(layers[row], alone[0])
    without = encoder.encode(*encoder.select_tokens(embedded[rows], grid, index), keep_layers=1).hidden_states[0]
    assert (layers - without).abs().max() > 1e-4
