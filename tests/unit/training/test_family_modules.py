"""What the training modules refuse and take over, for the methods beside EAT and SSLAM."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torchaudio.compliance import kaldi

from sslam_lightning.augment import Mixup, SpecAugment
from sslam_lightning.checkpoints import Weights
from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.losses import DINOLoss, InfoNCE, ReconstructionLoss, RegressionLoss, TeacherTargets
from sslam_lightning.losses.targets import normalize
from sslam_lightning.masking import SpanMask, UniformMask
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import (
    ConvDecoderConfig,
    EncoderConfig,
    HuggingFaceConfig,
    SpectrogramTokensConfig,
    TextConfig,
    TransformerDecoderConfig,
    WaveformConfig,
)
from sslam_lightning.rng import fold_in
from sslam_lightning.training import Data2Vec1Module, FinetuneModule, PretrainModule
from sslam_lightning.training.callbacks import CollapseMonitor, EMATeacher
from sslam_lightning.training.run.optimizers import OptimizerConfig, build_optimizer
from sslam_lightning.types import Batch, Grid, ImageBatch, TextBatch

SIZE = {"dim": 16, "depth": 2, "num_heads": 2}
MAE_AST = {
    "masking": UniformMask(),
    "masks_per_clip": 1,
    "ema": None,
    "regression": None,
    "utterance": None,
    "reconstruction": ReconstructionLoss(weight=10.0, scale="mean", normalize=False),
    "info_nce": InfoNCE(),
}
LINE = ConvDecoderConfig(dim=8, depth=1, groups=2, dimensions=1)


def batch(rows: int = 2, samples: int = 4000) -> Batch:
    waveforms = torch.randn(rows, samples)
    names = tuple(f"clip {row}" for row in range(rows))
    return Batch(waveforms, [samples] * rows, torch.zeros(rows, 0), torch.arange(rows), names)


def waveforms(**settings) -> PretrainModule:
    front_end = WaveformConfig(((8, 10, 5), (8, 3, 2)))
    encoder = EncoderConfig(**SIZE, front_end=front_end, cls_token=False, alibi="learned")
    settings = {
        "decoder": LINE,
        "masking": UniformMask(0.5),
        "masks_per_clip": 2,
        "targets": TeacherTargets(2),
        "utterance": None,
        **settings,
    }
    return PretrainModule(encoder, features=None, **settings)


def mae_ast(**settings) -> PretrainModule:
    encoder = EncoderConfig(**SIZE, front_end=SpectrogramTokensConfig(2, 16, 16), cls_token=False)
    settings = {"features": LogMels(num_frames=16, num_mels=16, patch_frames=2), **settings}
    settings = {"decoder": TransformerDecoderConfig(dim=16, depth=1, num_heads=2), **MAE_AST, **settings}
    return PretrainModule(encoder, **settings)


def quiet(module):
    """A module that logs nowhere."""
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: float(value.detach())})
    return module


@pytest.mark.parametrize("parts", ["encoder", "context"])
def test_padded_samples_change_no_guess_but_those_at_padding(parts, monkeypatch) -> None:
    """What lies behind a clip's end is not read."""
    module = quiet(waveforms(teacher_parts=parts))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    short = batch()._replace(lengths=[4000, 2500])
    torch.manual_seed(1)
    loss = module.training_step(short, 0)
    loss.backward()
    assert module.student.front_end.convs[0].weight.grad.any()
    assert not any(parameter.requires_grad for parameter in module.teacher.parameters())
    other = short.waveforms.clone()
    other[1, 2500:] = 9.0
    torch.manual_seed(1)
    assert module.training_step(short._replace(waveforms=other), 0).item() == loss.item()


def test_waveforms_too_short_for_a_token_are_refused_by_name() -> None:
    short = batch()._replace(lengths=[4000, 19])
    module = FinetuneModule(waveforms().student.config, None, 2, pooling="mean")
    with pytest.raises(ValueError, match=r"clip 1 has 19 samples, but one token takes 20: leave out shorter clips"):
        module.transfer_batch_to_device(short, torch.device("cpu"), 0)


def any_length(**settings) -> PretrainModule:
    """On patches of 16 x 16, four side by side."""
    encoder, decoder = EncoderConfig(**SIZE, num_mels=64), ConvDecoderConfig(dim=16, depth=1, groups=4)
    features = LogMels(num_frames=settings.pop("num_frames", None), num_mels=64)
    return PretrainModule(encoder, decoder, features, **{"masks_per_clip": 2, "targets": TeacherTargets(2), **settings})


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: waveforms(masking=SpanMask(0.5)), 20 + 10),  # two tokens: one is hidden
        (lambda: waveforms(masking=SpanMask(0.3), crop_to_shortest=True), 20 + 3 * 10),
        (lambda: any_length(masking=UniformMask(0.9)), 400 + 160 * 32),  # the first frame of a third column: 12 patches
        (lambda: any_length(mixing=PartialMixing(), masking=UniformMask(0.5)), 400 + 160 * 32),
        (lambda: mae_ast(features=LogMels(num_frames=None, num_mels=16, patch_frames=2)), 400 + 160 * 6),  # four of them
    ],
    ids=["waveforms", "cropped", "log-mels", "mixed", "MAE-AST"],
)
def test_the_shortest_clip_that_can_be_learned_from(make, least: int, monkeypatch) -> None:
    """One sample less, in a batch of its own, and there is no mask or no mixture."""
    module = quiet(make())
    monkeypatch.setattr(type(module), "current_epoch", 0)
    assert module.min_samples == least
    assert module.training_step(batch(samples=least), 0).isfinite()
    with pytest.raises(ValueError, match=r"a mask must hide some patches|at least 3 columns of patches, got 2"):
        module.training_step(batch(samples=least - 1), 0)
    short = batch(samples=6000)._replace(lengths=[6000, least - 1])
    message = f"clip 1 has {least - 1} samples, but a clip of which some is hidden and some is seen takes {least}: leave"
    with pytest.raises(ValueError, match=message):
        module.transfer_batch_to_device(short, torch.device("cpu"), 0)
    module._trainer = SimpleNamespace(predicting=True)
    assert module.min_samples == (20 if module.features is None else module.features.min_samples)


def test_clips_padded_to_a_fixed_length_need_one_patch_as_ever() -> None:
    module = any_length(num_frames=64, mixing=PartialMixing(), masking=UniformMask(0.9))
    assert module.min_samples == LogMels().min_samples == 2800


def test_clips_of_no_length_help_a_mask_that_hides_nothing() -> None:
    assert waveforms(masking=SpanMask(1e-9)).min_samples == 20


def test_data2vec1_learns_from_two_tokens_of_a_waveform() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_conv_pos_embedding_groups": 2}
    model = HuggingFaceConfig("data2vec-audio", {**sizes, **convolutions})
    assert Data2Vec1Module(model, masking=SpanMask(0.5), targets=TeacherTargets(2, "block")).min_samples == 30
    assert data2vec1().min_samples == 1  # images


def test_waveforms_are_cut_to_the_shortest_where_asked_for(monkeypatch) -> None:
    """Then every clip hides as many tokens as its own length allows, and nothing is padding."""
    module = quiet(waveforms(crop_to_shortest=True))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    read, seen = type(module).read, []
    monkeypatch.setattr(type(module), "read", lambda self, batch: seen.append(read(self, batch)) or seen[-1])
    module.training_step(batch()._replace(lengths=[4000, 2500]), 0).backward()
    (readings,) = seen
    assert readings.clips.shape == (2, 2500)
    assert readings.padding is None
    with pytest.raises(ValueError, match=r"crop_to_shortest cuts waveforms, but this model reads something else"):
        PretrainModule(EncoderConfig(**SIZE), targets=TeacherTargets(2), crop_to_shortest=True)


def test_waveforms_are_rolled_where_asked_for(monkeypatch) -> None:
    """D10: each clip within its own length, the same at every validation, by other steps in every epoch."""
    settings = {"features": LogMels(num_frames=32, kind="decibel", extremes="padded_row"), "targets": TeacherTargets(2)}
    module = quiet(PretrainModule(EncoderConfig(**SIZE), roll=True, masks_per_clip=2, **settings))
    seen, log_mels = [], type(module).log_mels
    monkeypatch.setattr(type(module), "log_mels", lambda self, batch: seen.append(batch) or log_mels(self, batch))
    given = batch()._replace(lengths=[4000, 3000])
    for epoch in (0, 1, 0):
        monkeypatch.setattr(type(module), "current_epoch", epoch)
        module.training_step(given, 0).backward()
    first, second, again = (each.waveforms for each in seen)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    for row, length in enumerate(given.lengths):
        before, after = given.waveforms[row, :length], first[row, :length]
        shift = int((after == before[0]).nonzero()[0])
        assert shift > 0
        assert torch.equal(after, before.roll(shift))
    text = EncoderConfig(**SIZE, front_end=TextConfig(30, 12), cls_token=False)
    with pytest.raises(ValueError, match="roll shifts waveforms, but this model reads something else: set it to false"):
        PretrainModule(text, features=None, utterance=None, roll=True, targets=TeacherTargets(2))


def test_what_needs_patches_is_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match=r"the WaveformFrames front-end has no patches that could be reconstructed"):
        waveforms(reconstruction=ReconstructionLoss())
    with pytest.raises(ValueError, match=r"mixing is made for log-mel patches: it needs encoder.front_end null"):
        waveforms(mixing=PartialMixing())


def test_without_a_teacher_nothing_compares_with_one() -> None:
    message = "regression, dino compare with a teacher, and ema is null: set them to null, or configure ema"
    with pytest.raises(ValueError, match=message):
        mae_ast(regression=RegressionLoss(), dino=DINOLoss())
    with pytest.raises(ValueError, match="there is nothing to learn: configure at least one loss"):
        mae_ast(reconstruction=None, info_nce=None)
    module = mae_ast()
    assert module.teacher is None
    assert not [
        callback for callback in module.configure_callbacks() if isinstance(callback, (EMATeacher, CollapseMonitor))
    ]


def test_a_tokenizer_with_more_tokens_than_the_model(monkeypatch) -> None:
    encoder = EncoderConfig(**SIZE, front_end=TextConfig(vocabulary=100, max_tokens=16), cls_token=False)
    module = PretrainModule(encoder, LINE, None, targets=TeacherTargets(2), utterance=None)
    module._trainer = SimpleNamespace(precision="32-true", datamodule=SimpleNamespace(vocabulary=120))
    with pytest.raises(ValueError, match=r"the tokenizer has 120 tokens, but encoder.front_end.vocabulary is 100"):
        module.setup("fit")


def test_mae_asts_loss_is_the_sum_of_its_parts_and_reaches_everything(monkeypatch) -> None:
    module = quiet(mae_ast())
    monkeypatch.setattr(type(module), "current_epoch", 0)
    module.training_step(batch(), 0).backward()
    parts = [module.logged[f"train/loss/{name}"] for name in ("reconstruction", "info_nce")]
    assert module.logged["train/loss"] == pytest.approx(sum(parts), rel=1e-5)
    for part in module.trainable_modules():
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
    without = quiet(mae_ast(info_nce=None))
    without.training_step(batch(), 0)
    assert set(without.logged) == {"train/loss", "train/loss/reconstruction"}
    assert without.contrast_head is None


def test_mae_ast_reconstructs_with_ten_times_the_mean_squared_error_at_any_token_size(monkeypatch) -> None:
    module, seen = quiet(mae_ast()), {}
    monkeypatch.setattr(type(module), "current_epoch", 0)
    losses = module.losses
    module.losses = lambda output: seen.update(output=output) or losses(output)
    module.training_step(batch(), 0)
    predictions, wanted = seen["output"].predictions.values, seen["output"].masked_values
    assert wanted.shape[-1] == 2 * 16  # not the 256 of the published sizes
    mean = (predictions - wanted).square().mean().item()
    assert module.logged["train/loss/reconstruction"] == pytest.approx(10 * mean, rel=1e-5)


def test_mae_ast_pads_nothing(monkeypatch) -> None:
    """D1: a batch is cut to its shortest clip, so that no padded frame counts in the batch norm."""
    module = quiet(mae_ast(features=replace(MAE_AST_LOG_MELS, num_mels=16, patch_frames=2), crop_to_shortest=True))
    monkeypatch.setattr(type(module), "current_epoch", 0)
    seen: list[torch.Tensor] = []
    module.student.front_end.norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    lengths = [3200, 2000]
    waveforms = torch.randn(2, 3200) * 0.1
    waveforms[1, 2000:] = 0.0
    module.training_step(Batch(waveforms, lengths, torch.zeros(2, 0), torch.arange(2), ("a", "b")), 0)
    (log_mels,) = seen
    assert log_mels.shape == (2, 1, 10, 16)  # 11 frames fit into 2000 samples: five patches
    shorter = kaldi.fbank(waveforms[1:, :2000], sample_frequency=16000, use_energy=False, num_mel_bins=16)
    torch.testing.assert_close(log_mels[1, 0], shorter[:10], atol=1e-5, rtol=0)
    assert module.student.front_end.norm.running_mean.item() == pytest.approx(0.1 * log_mels.mean().item(), rel=1e-4)


def test_mae_ast_sits_out_a_batch_without_clips() -> None:
    nothing = Batch(torch.zeros(0, 1), (), torch.zeros(0, 0), torch.arange(0), ())
    module = mae_ast()
    loss = module.training_step(nothing, 0)
    loss.backward()
    assert loss.item() == 0.0
    assert module.validation_step(nothing, 0) is None


def test_what_weight_decay_leaves_alone_and_what_lies_below_the_blocks() -> None:
    module = waveforms(decoder=TransformerDecoderConfig(dim=16, depth=1, num_heads=2, positions="learned"))
    config = OptimizerConfig(lr=1.0, weight_decay=0.1, layer_decay=0.5)
    optimizer = build_optimizer(module.trainable_modules(), config, 2, fused=False)
    names = {id(p): name for part in module.trainable_modules() for name, p in part.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found["alibi.scale"] == (0.125, 0.0)
    assert found["front_end.convs.0.weight"] == (0.125, 0.1)
    assert found["positions"] == (1.0, 0.0)
    assert found["mask_token"] == (1.0, 0.0)


def data2vec1(**settings) -> Data2Vec1Module:
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = HuggingFaceConfig("vit", {**size, "image_size": 16, "patch_size": 4})
    return Data2Vec1Module(encoder, **{"targets": TeacherTargets(2, "block"), **settings})


def test_data2vec1_by_hand() -> None:
    module = quiet(data2vec1())
    images = torch.randn(2, 3, 16, 16)
    nothing = ImageBatch(images, torch.zeros(2, 0), torch.arange(2), ("a", "b"))
    module.eval()
    loss = module.training_step(nothing, 0)
    keys = fold_in(module.clip_keys(nothing), int.from_bytes(b"masks", "big"))
    mask = module.masking(keys, Grid(4, 4))
    whole = module.teacher.encoder.model(images, output_hidden_states=True).hidden_states[1:]
    normalized = [normalize(layer[:, 1:], "instance") for layer in whole]
    targets = torch.nn.functional.layer_norm(sum(normalized) / 2, (16,))
    predictions = module.regression_head(module.student(images, hidden=mask.hidden).tokens)
    error = (predictions - targets)[mask.hidden].square().sum(dim=1).mean() / 16**0.5
    torch.testing.assert_close(loss, error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": TeacherTargets(3, "block")}, r"targets.top_k_layers must lie between 1 and 2, got 3"),
        ({"targets": TeacherTargets(2)}, r"models of transformers return what their blocks put out"),
    ],
)
def test_what_data2vec1_refuses(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        data2vec1(**settings)


def test_data2vec1_has_no_layer_decay() -> None:
    module = data2vec1(optimizer=OptimizerConfig(layer_decay=0.5))
    with pytest.raises(ValueError, match=r"layer decay knows the blocks of this project's encoders"):
        module.configure_optimizers()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": Mixup()}, r"mixup blends log-mels or images, the TokenEmbeddings front-end reads neither"),
        ({"spec_augment": SpecAugment()}, r"spec_augment changes log-mels, which the TokenEmbeddings front-end does not"),
        ({"noise_and_roll": True}, r"noise_and_roll changes log-mels"),
    ],
)
def test_augmentations_that_a_front_end_does_not_take(settings, message) -> None:
    encoder = EncoderConfig(**SIZE, front_end=TextConfig(100, 16), cls_token=False)
    with pytest.raises(ValueError, match=message):
        FinetuneModule(encoder, None, 2, **settings)


def test_padding_does_not_count_in_fine_tuning() -> None:
    encoder = EncoderConfig(**SIZE, front_end=TextConfig(100, 16), cls_token=False)
    module = FinetuneModule(encoder, None, 2, pooling="mean").eval()
    texts = torch.randint(4, 100, (2, 8))
    texts[1, 5:] = 1
    batch = TextBatch(texts, torch.tensor([8, 5]), torch.eye(2), torch.arange(2), ("a", "b"))
    alone = TextBatch(texts[1:, :5], torch.tensor([5]), torch.eye(2)[:1], torch.arange(1), ("b",))
    torch.testing.assert_close(module(*module.read(batch))[1:], module(*module.read(alone)))


def test_a_decoder_of_another_shape_is_refused(tmp_path) -> None:
    module = mae_ast()
    config = module.student.config
    weights = Weights("file", config, module.student.state_dict(), decoder_config=TransformerDecoderConfig(16, 1, 4))
    weights = weights._replace(decoder=module.decoder.state_dict())
    with pytest.raises(ValueError, match=r"file: its decoder.num_heads is 4, the configured one is 2"):
        weights.check_decoder(module.decoder.config)
