"""Whole runs of the public trainer, repeated through ``Trainer.fit``."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from recipes import FromLogMels, RecordedMasks, log_mel_batch, pretrain_module
from reference_data import case_names

from sslam_lightning.checkpoints import from_fairseq, load_state_dict_strict, read_weights
from sslam_lightning.checkpoints.formats.fairseq import rename
from sslam_lightning.training import FinetuneModule
from sslam_lightning.training.callbacks import EMAConfig, EMATeacher
from sslam_lightning.training.run.optimizers import OptimizerConfig


class Recorder(pl.Callback):
    """What the public trainer logs at every step, in its order."""

    def __init__(self) -> None:
        self.rates, self.decays, self.steps = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        ema = [callback for callback in trainer.callbacks if isinstance(callback, EMATeacher)]
        self.decays += [callback.decay for callback in ema]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fit(module, batches, tmp_path, clip: float | None) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        gradient_clip_val=clip,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return recorder


def _optimizer(setup: dict, **more) -> OptimizerConfig:
    public = setup["optimization"]
    return OptimizerConfig(
        lr=public["lr"],
        betas=tuple(public["betas"]),
        eps=public["eps"],
        weight_decay=public["weight_decay"],
        decay_all=True,
        warmup_steps=public["warmup_updates"],
        max_steps=public["max_updates"],
        min_lr=public.get("min_lr", 0.0),
        min_lr_scaled=False,
        layer_decay_embedding=False,
        **more,
    )


def _assert_weights(module: torch.nn.Module, expected: dict[str, torch.Tensor], atol: float = 5e-4) -> None:
    """Within half of what is asked for, since some tensors move by less than 1e-3 in all; the slow teacher closer still."""
    own = module.state_dict()
    assert own.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(own[name], value, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", case_names("eat_*trajectory*"))
def test_24_updates_of_pretraining_equal_the_public_run(name, reference, tmp_path):
    case = reference.case(name)
    setup, model = case["setup"], case["setup"]["model"]
    initial, final = ({k: torch.tensor(v) for k, v in reference.arrays(f"{name}_{e}").items()} for e in ("init", "final"))
    batches = reference.arrays(f"{name}_batches")
    sources = torch.tensor(batches["sources"].astype(np.float32)).squeeze(2)
    hidden = torch.tensor(np.unpackbits(batches["masks"], axis=-1).astype(bool))
    cfg = {
        "num_heads": model["num_heads"],
        "norm_eps": model["norm_eps"],
        "layer_norm_first": model["layer_norm_first"],
        "average_top_k_layers": model["average_top_k_layers"],
        "modalities": {"image": {"mask_noise_std": setup["mask_noise_std"]}},
        "clone_batch": setup["clone_batch"],
        "loss_beta": 0.0,
        "loss_scale": None,
        "cls_loss": setup["cls_loss"],
        "d2v_loss": setup["d2v_loss"],
        "recon_loss": 0.0,
        **{f"{kind}_norm_target_layer": False for kind in ("batch", "layer")},
        "instance_norm_targets": False,
        **setup["targets"],
    }
    ema, schedule = setup["ema"], setup["optimization"]
    module = pretrain_module(
        cfg,
        {k: v for k, v in initial.items() if not k.startswith("_ema.")},
        {k.removeprefix("_ema."): v for k, v in initial.items() if k.startswith("_ema.")},
        name,
        masking=RecordedMasks(list(hidden)),
        ema=EMAConfig(ema["decay"], ema["end_decay"], ema["anneal_end_step"]),
        optimizer=_optimizer(setup),
    )
    recorder = fit(module, [log_mel_batch(x) for x in sources], tmp_path, schedule["clip_norm"])

    assert len(recorder.steps) == len(case["losses"]) == schedule["max_updates"]
    assert [rates[0] for rates in recorder.rates] == case["lr"]
    assert recorder.decays == case["ema_decay"]
    for step, losses, norm in zip(recorder.steps, case["losses"], case["gnorm"], strict=True):
        assert step["train/loss/utterance"] == pytest.approx(losses["cls"], rel=1e-4)
        assert step["train/loss/regression"] == pytest.approx(losses["IMAGE_regression"], rel=1e-4)
        assert step["train/grad_norm"] == pytest.approx(norm, rel=1e-4)
    parts, _ = rename({k: v for k, v in final.items() if not k.startswith("_ema.")})
    teacher, _ = rename({k.removeprefix("_ema."): v for k, v in final.items() if k.startswith("_ema.")})
    _assert_weights(module.student, parts["encoder"])
    _assert_weights(module.decoder, parts["decoder"])
    _assert_weights(module.teacher.encoder, teacher["encoder"], atol=2e-4)


class FinetuneFromLogMels(FinetuneModule):
    log_mels = FromLogMels.log_mels


@pytest.mark.parametrize("name", case_names("eat_tiny_finetune_*"))
def test_12_updates_of_finetuning_equal_the_public_run(name, reference, tmp_path):
    case = reference.case(name)
    setup = case["setup"]
    kind = "multi_label" if setup["loss"].startswith("binary") else "single_label"
    initial, final = ({k: torch.tensor(v) for k, v in reference.arrays(f"{name}_{e}").items()} for e in ("init", "final"))
    batches = reference.arrays(f"{name}_batches")
    sources = torch.tensor(batches["sources"].astype(np.float32)).squeeze(2)
    labels = torch.tensor(batches["labels"])
    if labels.ndim == 2:
        labels = torch.nn.functional.one_hot(labels.long(), setup["num_classes"]).float()
    cfg = {"num_heads": setup["model"]["num_heads"], "norm_eps": setup["model"]["norm_eps"]}
    weights = from_fairseq(initial, cfg, name)
    module = FinetuneFromLogMels(
        weights.encoder,
        num_classes=setup["num_classes"],
        multi_label=kind == "multi_label",
        roll_and_gain=False,
        label_smoothing=0.1 if kind == "single_label" else 0.0,
        bce_reduction="clips" if kind == "single_label" else "positives",
        optimizer=_optimizer(setup, layer_decay=setup["layer_decay"]),
    )
    load_state_dict_strict(module.encoder, weights.student, "student", name)
    load_state_dict_strict(module.head, weights.head, "head", name)
    started = read_weights(reference.file(setup["starts_from"]))
    _assert_weights(module.encoder, started.student)
    rows = [log_mel_batch(x)._replace(labels=y) for x, y in zip(sources, labels, strict=True)]
    recorder = fit(module, rows, tmp_path, None)

    assert len(recorder.steps) == len(case["losses"])
    # Groups come in the order of the parameters; the head's rate, which no layer scales, is the highest.
    assert [max(rates) for rates in recorder.rates] == case["lr"]
    scales = {g["initial_lr"] / case["setup"]["optimization"]["lr"] for g in module.trainer.optimizers[0].param_groups}
    public = {overrides.get("lr_scale", 1.0) for overrides in case["optim_overrides"].values()}
    assert sorted(scales) == pytest.approx(sorted(public))
    for step, losses, norm in zip(recorder.steps, case["losses"], case["gnorm"], strict=True):
        (loss,) = losses.values()
        assert step["train/loss"] == pytest.approx(loss, rel=1e-4)
        assert step["train/grad_norm"] == pytest.approx(norm, rel=1e-4)
    parts, _ = rename(final)
    _assert_weights(module.encoder, parts["encoder"])
    _assert_weights(module.head, parts["head"])
    module.eval()
    with torch.no_grad():
        logits = module(sources[0])
    torch.testing.assert_close(logits, torch.tensor(batches["final_logits_on_first_batch"]), rtol=0, atol=1e-3)


def test_the_finetuned_checkpoints_open(reference):
    for kind in ("single_label", "multi_label"):
        weights = read_weights(reference.file(f"checkpoints/fairseq_eat_tiny_finetuned_{kind}.pt"))
        assert weights.head is not None
        assert weights.head["linear.weight"].shape == (10, 64)
        assert not weights.unused
