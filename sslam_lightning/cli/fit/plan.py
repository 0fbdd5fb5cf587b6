"""``sslam plan``: what a run will be, told from its configuration alone, without data and without a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import LightningArgumentParser, instantiate_class

from sslam_lightning.benchmarks.memory import Arithmetic
from sslam_lightning.benchmarks.step_plan import Placement, StepPlan, features_of, plan_step
from sslam_lightning.checkpoints import check_source
from sslam_lightning.cli.fit.published import Difference, differences, published_recipe
from sslam_lightning.cli.fit.settings import SettingsCLI
from sslam_lightning.data.loading.sampler import EpochSampler, LastBatch
from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.modules.base import AudioModule

_FRAMES_PER_SECOND = 100
_GIB = 2**30


class Layout(NamedTuple):
    """How the clips of an update are spread."""

    devices: int  # of a node
    nodes: int
    accumulated: int
    batch_size: int

    @property
    def global_batch(self) -> int:
        """Clips of an update."""
        return self.devices * self.nodes * self.accumulated * self.batch_size

    def __str__(self) -> str:
        places = f"{self.devices} device{'s' * (self.devices > 1)}"
        places += f" x {self.nodes} nodes" if self.nodes > 1 else ""
        accumulated = f" x {self.accumulated} accumulated" if self.accumulated > 1 else ""
        return f"{self.global_batch} clips = {places} x {self.batch_size} clips{accumulated}"


class RunPlan(NamedTuple):
    """Everything that is known of a run before it begins."""

    module: PretrainModule | FinetuneModule
    num_frames: int
    step: StepPlan
    layout: Layout
    updates: int | None
    clips: int | None  # of an epoch; None where the data are not there
    steps_per_epoch: int | None
    published: str
    differences: list[Difference]
    notes: list[str]


class PlanCLI(SettingsCLI):
    """A configuration, and what only a plan asks for."""

    command = "plan"

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        description = "Tell what a run will be from its settings: memory, epochs, time, differences from its paper."
        return super().init_parser(**{**kwargs, "prog": "sslam plan", "description": description})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--clips_per_second", type=float | None, default=None, help="Speed of all devices together, for the time."
        )
        parser.add_argument(
            "--clips", type=int | None, default=None, help="Clips of an epoch; by default those of the data, if there."
        )


def run_plan(args: list[str]) -> None:
    """Print the plan of a configuration."""
    cli = PlanCLI(args)
    settings = cli.settings()
    for name in ("clips", "clips_per_second"):
        if settings[name] is not None and settings[name] <= 0:
            raise ValueError(f"{name} must be positive, got {settings[name]:g}")
    plan = make_plan(cli, settings)
    print("\n".join(report(plan, settings["clips_per_second"])))


def make_plan(cli: PlanCLI, settings: Mapping[str, Any]) -> RunPlan:
    """The plan of a resolved configuration."""
    notes: list[str] = []
    trainer, of_data = settings["trainer"], settings["data"]["init_args"]
    data, clips = _look_at_data(settings, notes)
    _look_at_start(settings["model"]["init_args"].get("init_from"), notes)
    module = build_model(settings["model"], data)
    layout, clips = layout_of(settings, notes), settings["clips"] or clips
    features = features_of(module)
    num_frames = features.num_frames
    if num_frames is None:
        num_frames = features.length(int((of_data.get("max_clip_seconds") or 10.24) * features.sample_rate_hz))
        notes.append(f"clips have any length: planned for {num_frames} frames of 10 ms")
    recipe = published_recipe(settings)
    published = cli.settings(*recipe)
    batches = Difference("global batch", str(layout_of(published, []).global_batch), str(layout.global_batch))
    changed = [batches] if batches.published != batches.here else []
    per_epoch = _updates_per_epoch(clips, layout, of_data.get("last_batch", "pad"), trainer["limit_train_batches"])
    updates = trainer["max_steps"] if (trainer["max_steps"] or -1) > 0 else None
    if (trainer["max_epochs"] or -1) > 0 and per_epoch:
        updates = min(updates or math.inf, trainer["max_epochs"] * per_epoch)
    if updates and updates <= (warmup := module.optimizer_config.warmup_steps):
        notes.append(f"the learning rate rises to the end: model.optimizer.warmup_steps is {warmup:,}")
    return RunPlan(
        module,
        num_frames,
        plan_step(module, layout.batch_size, num_frames, _placement(settings, layout)),
        layout,
        updates,
        clips,
        per_epoch,
        " + ".join(f"configs/{name}.yaml" for name in recipe),
        [*changed, *differences(published, settings)],
        notes,
    )


def _updates_per_epoch(clips: int | None, layout: Layout, last_batch: LastBatch, limit: float | None) -> int | None:
    """Of an epoch whose last update is filled up, or left out, as the data module does."""
    if clips is None:
        return None
    world = layout.devices * layout.nodes
    sampler = EpochSampler(
        clips, layout.batch_size, last_batch=last_batch, accumulated=layout.accumulated, world=world, rank=0
    )
    batches = sampler.num_batches()
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return max(1, math.ceil(batches / layout.accumulated))


def build_model(settings: Mapping[str, Any], data: AudioDataModule | None) -> PretrainModule | FinetuneModule:
    """The module without memory for its weights."""
    settings = {**settings, "init_args": dict(settings["init_args"])}
    if data is not None:
        linked = {"num_classes": data.num_classes, "multi_label": data.multi_label}
        settings["init_args"] |= {name: value for name, value in linked.items() if name in settings["init_args"]}
    parser = LightningArgumentParser()
    parser.add_subclass_arguments(AudioModule, "model")
    with torch.device("meta"):
        module = parser.instantiate_classes(parser.parse_object({"model": settings})).model
    features_of(module)
    assert isinstance(module, (PretrainModule, FinetuneModule)), "others have been refused"
    return module


def report(plan: RunPlan, clips_per_second: float | None) -> Iterator[str]:
    """The plan in lines."""
    lines = [
        *_of_the_step(plan),
        ("global batch", str(plan.layout)),
        ("updates", f"{plan.updates:,}" if plan.updates else "no end is set: set trainer.max_steps"),
        ("epochs", _epochs(plan)),
        ("time", _time(plan, clips_per_second)),
        *(("note", note) for note in plan.notes),
    ]
    yield from (f"{name:<20}{text}" for name, text in lines)
    yield ""
    if not plan.differences:
        yield f"the same as published ({plan.published})"
        return
    yield f"differences from {plan.published}"
    rows = [Difference("setting", "published", "here"), *plan.differences]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    yield from (f"  {row.key:<{widths[0]}}  {row.published:<{widths[1]}}  {row.here}".rstrip() for row in rows)


def _of_the_step(plan: RunPlan) -> Iterator[tuple[str, str]]:
    step, shapes, memory = plan.step, plan.step.shapes, plan.step.memory
    learning, frozen = (
        ", ".join(f"{name} {_short(count)}" for name, count in part.items()) for part in (step.learning, step.frozen)
    )
    frozen = f"; {frozen}" if frozen else ""
    yield "parameters", f"{_short(sum(step.learning.values()))} learn ({learning}){frozen}"
    masks, hides = shapes.rows // shapes.clips, bool(shapes.hidden)
    mixed = " clean and mixed" if isinstance(plan.module, PretrainModule) and plan.module.mixing else ""
    clips = f"{plan.layout.batch_size} clips{mixed} of {plan.num_frames / _FRAMES_PER_SECOND:g} s"
    yield "step of a device", clips + (f" x {masks} masks = {shapes.rows} rows" if hides else "")
    encoder = plan.module.student if isinstance(plan.module, PretrainModule) else plan.module.encoder
    tokens = shapes.rows * (shapes.visible + encoder.config.cls_token)
    hidden = f", {shapes.rows * shapes.hidden:,} hidden patches to guess" if hides else ""
    yield "tokens", f"{tokens:,} through the student ({shapes.visible} of {shapes.patches} patches a row){hidden}"
    parts = step.operations
    shares = {"teacher": parts.teacher, "student": parts.student, "decoder" if hides else "head": parts.decoder}
    told = ", ".join(f"{name} {part / parts.total:.0%}" for name, part in {**shares, "backward": parts.backward}.items())
    yield "operations", f"{parts.total / 1e12:.3g} TFLOP: {told}"
    held = {"activations": memory.activations, "weights": memory.weights, "gradients": memory.gradients}
    held |= {"optimizer": memory.optimizer, "teacher" if hides else "frozen": memory.teacher}
    told = ", ".join(f"{size / _GIB:.1f} {name}" for name, size in held.items())
    estimate = f"{memory.total / _GIB:.1f} GiB by estimate: {told}; temporary tensors take 10 to 20 % more"
    yield "memory of a device", estimate


def _epochs(plan: RunPlan) -> str:
    if plan.clips is None or plan.steps_per_epoch is None:
        return "unknown: the data are not here; say how many clips with --clips"
    count = f"{plan.updates / plan.steps_per_epoch:.4g} of " if plan.updates else ""
    return f"{count}{plan.clips:,} clips ({plan.steps_per_epoch:,} updates each)"


def _time(plan: RunPlan, clips_per_second: float | None) -> str:
    if not clips_per_second:
        return "unknown: say how fast all devices together are with --clips_per_second"
    seconds = plan.layout.global_batch / clips_per_second
    if not plan.updates:
        return f"{seconds:.3g} seconds an update"
    hours = plan.updates * seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def _look_at_data(settings: Mapping[str, Any], notes: list[str]) -> tuple[AudioDataModule | None, int | None]:
    """The data module and the clips of an epoch, as far as they are here."""
    init_args = settings["data"]["init_args"]
    data, clips = None, init_args.get("samples_per_epoch")
    try:
        offline = {"download": False} if "download" in init_args else {}
        data = instantiate_class((), {**settings["data"], "init_args": {**init_args, **offline}})
        if clips is None and settings["clips"] is None:
            clips = len(data.dataset("train") or ())
    except OSError as error:
        notes.append(f"the data are not here: {error}")
    return data, clips or None


def _look_at_start(init_from: str | None, notes: list[str]) -> None:
    try:
        if init_from:
            check_source(init_from)
    except FileNotFoundError as error:
        notes.append(f"the weights to start from (model.init_from) are not here: {error}")


def layout_of(settings: Mapping[str, Any], notes: list[str]) -> Layout:
    """As the configuration spreads clips; what it leaves to the machine is noted."""
    trainer = settings["trainer"]
    return Layout(
        _count_devices(trainer["devices"], trainer["accelerator"], notes),
        trainer["num_nodes"],
        trainer["accumulate_grad_batches"],
        settings["data"]["init_args"]["batch_size"],
    )


def _count_devices(devices: Any, accelerator: str, notes: list[str]) -> int:
    """Of a node, as Lightning reads the setting."""
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    if str(devices) not in ("auto", "-1"):
        if not str(devices).isdigit() or int(devices) == 0:
            raise ValueError(f"trainer.devices must be auto, a positive number or a list of numbers, got {devices}")
        return int(devices)
    if accelerator == "cpu":
        return 1
    here = torch.cuda.device_count()
    if accelerator != "auto" or here:
        notes.append(f"trainer.devices {devices} is every GPU of a node: {here or 'none'} here, counted as {max(1, here)}")
    return max(1, here)


def _placement(settings: Mapping[str, Any], layout: Layout) -> Placement:
    trainer = settings["trainer"]
    half = str(trainer["precision"] or "32-true") in ("16", "bf16", "16-mixed", "bf16-mixed")
    strategy = trainer["strategy"]
    name = strategy["class_path"] if isinstance(strategy, Mapping) else str(strategy)
    arithmetic = Arithmetic(half, on_cpu=trainer["accelerator"] == "cpu")
    return Placement(arithmetic, layout.devices * layout.nodes, sharded=name.endswith("ShardedStrategy"))


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"
