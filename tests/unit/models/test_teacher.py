from __future__ import annotations

import pytest
import torch

from sslam_lightning.models import Encoder, EncoderConfig, Teacher


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
    teacher.follow(student, decay)
    for name, value in teacher.encoder.named_parameters():
        torch.testing.assert_close(value, decay * before[name] + (1 - decay) * goal[name])
    for name, value in student.named_parameters():
        assert torch.equal(value, goal[name])


def test_it_follows_a_student_of_lower_precision_in_its_own(encoder_config: EncoderConfig) -> None:
    student = Encoder(encoder_config)
    teacher = Teacher(student)
    with torch.no_grad():
        student.clip_token.fill_(2.0)
        teacher.encoder.clip_token.fill_(1.0)
    teacher.follow(student.bfloat16(), 0.999)
    assert teacher.encoder.clip_token.dtype == torch.float32
    torch.testing.assert_close(teacher.encoder.clip_token, torch.full((1, 1, 16), 1.001))  # 1.0 in bfloat16


def test_it_learns_nothing_and_stays_in_evaluation(encoder_config: EncoderConfig) -> None:
    student = Encoder(encoder_config).train()
    teacher = Teacher(student)
    assert student.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    around = torch.nn.ModuleList([teacher]).train()
    assert around.training
    assert teacher.train() is teacher
    assert not any(module.training for module in teacher.modules())
    teacher.follow(student, 0.5)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
