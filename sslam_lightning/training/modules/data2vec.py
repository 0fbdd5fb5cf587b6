"""Pre-training of any encoder of Hugging Face transformers by data2vec (Baevski et al., 2022, arXiv 2202.03555)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from sslam_lightning.checkpoints import load_state_dict_strict
from sslam_lightning.checkpoints.formats.lightning import CONFIG_KEY, read_own_transformers
from sslam_lightning.checkpoints.formats.transformers import read_pretrained
from sslam_lightning.checkpoints.formats.transformers_preprocessor import read_preprocessing
from sslam_lightning.checkpoints.formats.transformers_settings import check_waveforms
from sslam_lightning.checkpoints.state_dict import with_prefix
from sslam_lightning.features import LogMels
from sslam_lightning.layers import gather_tokens
from sslam_lightning.losses import RegressionLoss, TeacherTargets
from sslam_lightning.masking import MaskSampler, UniformMask
from sslam_lightning.masking.sampler import MASKS
from sslam_lightning.metrics import MeanLoss
from sslam_lightning.models import HuggingFaceConfig, HuggingFaceEncoder, HuggingFaceTeacher
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.models.transformers.reader import HuggingFaceReader
from sslam_lightning.rng import fold_in
from sslam_lightning.training.callbacks import CollapseConfig, EMAConfig
from sslam_lightning.training.load_pretrained import tell_parts
from sslam_lightning.training.modules.pretrain_settings import check_layers
from sslam_lightning.training.modules.self_supervised import ClipPooling, SelfSupervisedModule
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.types import AnyBatch


class Data2Vec1Module(SelfSupervisedModule):
    """A student that sees a masked clip regresses, at the hidden tokens, what its teacher makes of the whole clip.

    There are no masked copies, no decoder and no CLS token's loss: hidden tokens go through the encoder as a learned
    vector, and a head on its last hidden state predicts them. `FinetuneModule` (``hugging_face``) and ``sslam embed`` take
    the checkpoint; ``sslam convert CKPT FOLDER --to transformers`` writes the trained model as ``save_pretrained`` does.

    Args:
        encoder: which model of transformers.
        features: log-mels for models that read spectrograms (AST); None for waveforms, images and text.
        masking: which tokens are hidden.
        targets: how the teacher's last hidden states become targets.
        regression: the head's output against the targets at hidden tokens.
        head_depth: linear layers of the head, with a GELU between two (the published one of text has two).
        ema: how the teacher follows.
        collapse: when to stop a run that collapses.
        optimizer: AdamW and its schedule.
        init_from: weights to start from: a folder of transformers (``config.json``, ``model.safetensors``; student and
            teacher begin with them) or a checkpoint of this module. The vector of hidden tokens and the head start anew.
        resampler: how the data was brought to the model's rate; recorded in the checkpoint, linked to the data module.
        seed: of everything random in training.
        compile: compile the blocks with ``torch.compile``.
    """

    student: HuggingFaceEncoder

    def __init__(
        self,
        encoder: HuggingFaceConfig,
        features: LogMels | None = None,
        masking: MaskSampler = UniformMask(0.5),
        targets: TeacherTargets = TeacherTargets(8, "block"),
        regression: RegressionLoss = RegressionLoss(),
        head_depth: Literal[1, 2] = 1,
        ema: EMAConfig = EMAConfig(0.999, 0.9999, 30_000),
        collapse: CollapseConfig = CollapseConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        init_from: str | None = None,
        resampler: str = "torchaudio",
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__(features, optimizer, seed, compile)
        self.save_hyperparameters()
        self.masking, self.targets, self.regression = masking, targets, regression
        self.ema, self.collapse, self.init_from = ema, collapse, init_from
        self.student = HuggingFaceEncoder(encoder)
        dim, depth = self.student.dim, self.student.depth
        check_layers("targets", targets.top_k_layers, depth)
        if targets.output != "block":
            raise ValueError("models of transformers return what their blocks put out: set targets.output to block")
        self.teacher = HuggingFaceTeacher(self.student)
        wider = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.regression_head = wider if head_depth == 2 else nn.Linear(dim, dim)
        self.named_losses = nn.ModuleDict({"regression": MeanLoss()})

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""]:
        """The teacher sees the whole clip, the student what is not hidden of it."""
        if self.is_empty(batch):
            return self.empty_step()
        clips, padding = self.read(batch)
        layers = self.teacher(clips, padding, self.targets.top_k_layers or self.student.depth).hidden_states
        targets, num_tokens = self.targets(layers), layers[-1].shape[1]
        self.log_token_std(layers[-1], padding)
        grid = self.student.grid(clips, num_tokens)
        mask = self.masking(fold_in(self.clip_keys(batch), MASKS), grid, padding)
        seen = self.student(clips, padding, mask.hidden)
        predictions = self.regression_head(gather_tokens(seen.tokens, mask.ids_masked))
        masked_targets = gather_tokens(targets, mask.ids_masked)
        return self.sum_and_log(
            {"regression": self.regression.compare(predictions, masked_targets)}, len(clips), predictions, masked_targets
        )

    @property
    def front_end(self) -> HuggingFaceReader:
        return self.student.front_end

    def embed(self, batch: AnyBatch, pooling: ClipPooling) -> Float[Tensor, "batch dim"]:
        assert pooling == "mean", "models of transformers have no CLS token here"
        clips, padding = self.read(batch)
        tokens = self.student(clips, padding).tokens
        return mean_of_tokens(tokens, padding)

    def load_pretrained(self, path: str) -> None:
        """Take over a model of transformers, or student and teacher of a checkpoint.

        Raises:
            ValueError: naming the first setting of the model that differs, or the first parameter that does not fit.
        """
        settings = self.student.whole_config()
        if Path(path).is_dir():
            student = teacher = read_pretrained(Path(path), self.student.model)
            normalized = read_preprocessing(Path(path), settings).normalize_waveforms
            check_waveforms(normalized, self.student.normalize_waveforms, path)
            left: Sequence[str] = ()
        else:
            own = read_own_transformers(Path(path))
            normalizes = self.student.normalize_waveforms
            own.check_architecture(HuggingFaceConfig(settings["model_type"], settings, normalize_waveforms=normalizes))
            student, teacher = (with_prefix(state, "model.") for state in (own.student, own.teacher or own.student))
            left = own.unused
        load_state_dict_strict(self.student.model, student, "student", path)
        load_state_dict_strict(self.teacher.encoder.model, teacher, "teacher", path)
        tell_parts(path, ["student", "teacher"], left, ["mask_token", "regression_head"])

    def configure_model(self) -> None:
        if self.is_sharded:
            raise ValueError("models of transformers do not train with FSDP here: train with --trainer.strategy=ddp")

    def trainable_modules(self) -> Sequence[nn.Module]:
        return [self.student, self.regression_head]

    def modules_to_compile(self) -> Sequence[nn.Module]:
        return [*self.student.blocks(), *self.teacher.encoder.blocks()]

    def configure_optimizers(self) -> Any:
        if self.optimizer_config.layer_decay != 1:
            raise ValueError("layer decay knows the blocks of this project's encoders: set optimizer.layer_decay to 1")
        return super().configure_optimizers()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[CONFIG_KEY] = self.student.whole_config()
