"""Files that are no checkpoints, and the round trip of our own."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from sslam_lightning.checkpoints import load_state_dict_strict, read_weights
from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.losses import ReconstructionLoss, RegressionLoss, SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import ConvDecoderConfig, Encoder, EncoderConfig
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.callbacks import CollapseConfig, EMAConfig
from sslam_lightning.training.run.optimizers import OptimizerConfig

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, mlp_ratio=2.0, patch_size=4, num_mels=16, dropout=0.1)
DECODER = ConvDecoderConfig(dim=24, depth=2, kernel_size=2, groups=4, noise_std=0.02)
FEATURES = LogMels(num_frames=32, mean=-5.0, num_mels=16, patch_frames=4)
SETTINGS: dict[str, Any] = {  # none of them the default
    "masking": InverseBlockMask(mask_ratio=0.6, block_size=2, mask_ratio_adjust=0.1),
    "masks_per_clip": 2,
    "targets": TeacherTargets(2, "block", ("batch", "instance"), ()),
    "regression": RegressionLoss(weight=0.5, beta=2.0),
    "utterance": UtteranceLoss(reduction="sum", top_k_layers=1),
    "reconstruction": ReconstructionLoss(weight=0.25, scale=1.0),
    "mixing": PartialMixing(partner="neighbor", regions="per_batch"),
    "source_retention": SourceRetentionLoss(weight=1.5),
    "ema": EMAConfig(0.9, 0.99, 20),
    "collapse": CollapseConfig(0.001, 0.01, 70),
    "seed": 3,
}


def fitted(module: pl.LightningModule, folder: Path) -> tuple[pl.LightningModule, Path]:
    """One update, then a checkpoint."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    data = SyntheticDataModule(num_train=4, num_val=0, clip_seconds=0.4, num_classes=4, batch_size=4, num_workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module, folder / "last.ckpt"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> tuple[PretrainModule, Path]:
    module = PretrainModule(ENCODER, DECODER, FEATURES, optimizer=OptimizerConfig(lr=0.01, betas=(0.8, 0.9)), **SETTINGS)
    return fitted(module, tmp_path_factory.mktemp("pretrained"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory) -> tuple[FinetuneModule, Path]:
    module = FinetuneModule(ENCODER, FEATURES, num_classes=4, class_names=["a", "b", "c", "d"], pooling="mean")
    return fitted(module, tmp_path_factory.mktemp("finetuned"))  # type: ignore[return-value]


def assert_same(state: dict[str, torch.Tensor] | None, module: torch.nn.Module) -> None:
    assert state is not None
    assert state.keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value), name


# Not a checkpoint ----------------------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nothing\.ckpt"):
        read_weights(tmp_path / "nothing.ckpt")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at "):
        read_weights(tmp_path)  # a folder
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    with pytest.raises(FileNotFoundError, match=rf"the folder of a run, name one of its own: {re.escape(str(last))}$"):
        read_weights(tmp_path)  # a run's
    last.with_name("best.ckpt").touch()
    with pytest.raises(FileNotFoundError, match=rf"name one of its own: {re.escape(str(last))} or best\.ckpt$"):
        read_weights(tmp_path)


def test_a_checkpoint_that_is_cut_off(tmp_path) -> None:
    path = tmp_path / "cut.ckpt"
    torch.save({"weight": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut\.ckpt cannot be opened as a checkpoint: it is damaged or cut off"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 40, b"PK\x03\x04 and no more", b"epoch,loss\n1,0.5\n"])
def test_bytes_that_are_no_checkpoint(tmp_path, content: bytes) -> None:
    path = tmp_path / "random.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"random\.ckpt cannot be opened as a checkpoint: \S"):
        read_weights(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file(tmp_path, pretrained: tuple[PretrainModule, Path], share: float) -> None:
    whole = pretrained[1].read_bytes()
    path = tmp_path / "truncated.ckpt"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"truncated\.ckpt cannot be opened as a checkpoint: \S"):
        read_weights(path)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path, plain_pickle: bool) -> None:
    path, marker = tmp_path / "trap.ckpt", tmp_path / "marker"
    content = {"model": Trap(marker), "cfg": {}}
    if plain_pickle:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"trap\.ckpt cannot be opened as a checkpoint: "):
        read_weights(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(marker))).close()  # the trap is one
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [{"weights": torch.zeros(2)}, {"model": {}}, {"model": torch.zeros(2), "cfg": {}}, torch.zeros(2), []],
    ids=str,
)
def test_files_of_other_projects(tmp_path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(
        ValueError, match=r"foreign\.pt is neither a fairseq checkpoint \(model, cfg\), nor one of BAT, nor one"
    ):
        read_weights(tmp_path / "foreign.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"backbone.weight": torch.zeros(2)}, "hyper_parameters": {"encoder": {}}},
        {"state_dict": {"encoder.weight": torch.zeros(2)}, "hyper_parameters": {"lr": 0.1}},
        {"state_dict": {"encoder.weight": torch.zeros(2)}},
    ],
    ids=["no encoder's weights", "no encoder's settings", "no settings"],
)
def test_lightning_checkpoints_of_other_projects(tmp_path, content: dict[str, Any]) -> None:
    torch.save({"pytorch-lightning_version": "2.6.0", **content}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt is a Lightning checkpoint, but not of this project"):
        read_weights(tmp_path / "other.ckpt")


# Our own -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_live_objects_holds_plain_data(pretrained: tuple[PretrainModule, Path]) -> None:
    content = torch.load(pretrained[1], weights_only=True)  # refuses everything else
    written = content["hyper_parameters"]
    assert written["masking"] == {
        "class_path": "sslam_lightning.masking.block.InverseBlockMask",
        "init_args": {"mask_ratio": 0.6, "block_size": 2, "mask_ratio_adjust": 0.1},
    }
    assert written["encoder"]["dropout"] == 0.1
    assert written["dino"] is None
    assert content["callbacks"]["EMATeacher"]["updates"] == 1


def test_settings_of_the_data_that_cannot_be(pretrained: tuple[PretrainModule, Path], tmp_path) -> None:
    content = torch.load(pretrained[1], weights_only=True)
    features = content["hyper_parameters"]["features"]
    for settings, message in (
        ({"resampler": "sox"}, r"a\.ckpt: hyper_parameters\.resampler must be one of 'torchaudio', 'soxr', got 'sox'"),
        ({"features": {**features, "num_frames": 16 * 10**8}}, r"num_frames must be at most 60000, got 1600000000"),
    ):
        changed = {**content, "hyper_parameters": {**content["hyper_parameters"], **settings}}
        torch.save(changed, tmp_path / "a.ckpt")
        with pytest.raises(ValueError, match=message):
            read_weights(tmp_path / "a.ckpt")


def test_the_parts_of_a_pretrained_checkpoint(pretrained: tuple[PretrainModule, Path]) -> None:
    module, path = pretrained
    weights = read_weights(path)
    assert weights.source == str(path)
    assert (weights.encoder, weights.decoder_config) == (ENCODER, DECODER)
    assert_same(weights.student, module.student)
    assert_same(weights.teacher, module.teacher.encoder)
    assert_same(weights.decoder, module.decoder)
    assert_same(weights.reconstruction, module.reconstruction_head)  # type: ignore[arg-type]
    assert weights.head is None
    assert weights.unused == ()
    moved = [name for name, value in weights.student.items() if not torch.equal(value, weights.teacher[name])]  # type: ignore[index]
    assert len(moved) > 0.9 * len(weights.student)  # student and teacher have not been mixed up


def test_the_parts_of_a_finetuned_checkpoint(finetuned: tuple[FinetuneModule, Path]) -> None:
    module, path = finetuned
    weights = read_weights(str(path))
    assert weights.encoder == ENCODER
    assert_same(weights.student, module.encoder)
    assert_same(weights.head, module.head)
    assert weights.unused == ()  # the best score, say, is no weight
    assert weights.features is not None
    assert LogMels(**weights.features) == FEATURES
    assert (weights.class_names, weights.pooling) == (("a", "b", "c", "d"), "mean")
    assert (weights.multi_label, weights.resampler) == (module.multi_label, "torchaudio")
    assert (weights.teacher, weights.decoder, weights.decoder_config, weights.reconstruction) == (None, None, None, None)


def test_every_key_is_used_or_listed(tmp_path, finetuned: tuple[FinetuneModule, Path]) -> None:
    content = torch.load(finetuned[1], weights_only=True)
    assert any(key.startswith("best_score") for key in content["state_dict"])
    content["state_dict"]["surplus.weight"] = torch.zeros(1)
    content["mood\x1b[31m"] = "good"
    torch.save(content, tmp_path / "more.ckpt")
    assert read_weights(tmp_path / "more.ckpt").unused == ("surplus.weight", "mood?[31m")


def test_a_module_is_rebuilt_from_its_checkpoint(pretrained: tuple[PretrainModule, Path]) -> None:
    module, path = pretrained
    again = PretrainModule.load_from_checkpoint(path, weights_only=True)
    for name, value in SETTINGS.items():
        rebuilt = getattr(again, name)
        assert type(rebuilt) is type(value), name
        assert rebuilt == value, name
    assert again.features == FEATURES
    assert (again.student.config, again.decoder.config) == (ENCODER, DECODER)
    assert again.optimizer_config == module.optimizer_config
    assert_same({**again.state_dict()}, module)
    again.init_from = "nothing.ckpt"
    again._start()  # its weights are in place: they are not overwritten, the file is not even looked for


def test_weights_of_our_own_checkpoint_encode_alike(pretrained: tuple[PretrainModule, Path]) -> None:
    module, path = pretrained
    weights = read_weights(path)
    weights.check_architecture(module.student.config)
    encoder = Encoder(weights.encoder).eval()
    load_state_dict_strict(encoder, weights.student, "student", weights.source)
    log_mels = torch.randn(2, 12, 16)
    torch.testing.assert_close(encoder(log_mels).cls, module.student.eval()(log_mels).cls)


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_finetuning_takes_the_part_it_is_told_to(pretrained: tuple[PretrainModule, Path], part: Any) -> None:
    module, path = pretrained
    finetune = FinetuneModule(ENCODER, FEATURES, num_classes=4, init_encoder=part)
    head = {name: value.clone() for name, value in finetune.head.state_dict().items()}
    finetune.load_pretrained(str(path))
    assert_same({**finetune.encoder.state_dict()}, module.student if part == "student" else module.teacher.encoder)
    assert_same(head, finetune.head)


def test_a_head_is_taken_over_where_it_fits(finetuned: tuple[FinetuneModule, Path]) -> None:
    module, path = finetuned
    same, wider = (FinetuneModule(ENCODER, FEATURES, num_classes=count) for count in (4, 5))
    for other in (same, wider):
        other.load_pretrained(str(path))
        assert_same({**other.encoder.state_dict()}, module.encoder)
    assert_same({**same.head.state_dict()}, module.head)
    assert wider.head.linear.out_features == 5


def test_a_checkpoint_without_a_teacher(finetuned: tuple[FinetuneModule, Path]) -> None:
    module, path = finetuned
    with pytest.raises(ValueError, match=r"last\.ckpt holds no teacher: set model\.init_encoder to student"):
        FinetuneModule(ENCODER, FEATURES, num_classes=4, init_encoder="teacher").load_pretrained(str(path))
    pretrain = PretrainModule(ENCODER, DECODER, FEATURES, **SETTINGS)
    pretrain.load_pretrained(str(path))  # the teacher starts where the student does
    assert_same({**pretrain.student.state_dict()}, module.encoder)
    assert_same({**pretrain.teacher.encoder.state_dict()}, module.encoder)
