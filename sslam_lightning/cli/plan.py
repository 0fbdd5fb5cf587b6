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
from sslam_lightning.cli.published import Difference, differences, published_recipe
from sslam_lightning.cli.settings import SettingsCLI
from sslam_lightning.data.module import AudioDataModule
from sslam_lightning.data.sampler import EpochSampler, LastBatch
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.module import AudioModule

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
    placement: Placement
    step: StepPlan
    layout: Layout
    updates: int | None
    clips: int | None  # of an epoch; None where the data are not there
    last_batch: LastBatch
    limit: int | float  # of the batches of an epoch on a device, or which share of them
    published: str
    published_layout: Layout
    differences: list[Difference]
    notes: list[str]

    @property
    def updates_per_epoch(self) -> int | None:
        """Of an epoch whose last update is filled up, or left out, as the data module does."""
        if self.clips is None:
            return None
        layout, world = self.layout, self.layout.devices * self.layout.nodes
        sampler = EpochSampler(
            self.clips,
            layout.batch_size,
            last_batch=self.last_batch,
            accumulated=layout.accumulated,
            world=world,
            rank=0,
        )
        batches = sampler.num_batches()
        batches = min(batches, self.limit) if isinstance(self.limit, int) else int(batches * self.limit)
        return max(1, math.ceil(batches / layout.accumulated))


class PlanCLI(SettingsCLI):
    """A configuration, and what only a plan asks for."""

    command = "plan"

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose help speaks of plans."""
        description = "Tell what a run will be from its settings: memory, epochs, time, differences from its paper."
        return super().init_parser(**{**kwargs, "prog": "sslam plan", "description": description})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """How fast, and how much."""
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
    data, clips = _look_at_data(settings, notes)
    _look_at_start(settings["model"]["init_args"].get("init_from"), notes)
    module = build_model(settings["model"], data)
    layout = layout_of(settings, notes)
    placement = _placement(settings, layout)
    features = features_of(module)
    num_frames = features.num_frames
    if num_frames is None:
        seconds = settings["data"]["init_args"].get("max_clip_seconds") or 10.24
        num_frames = features.length(int(seconds * features.sample_rate_hz))
        notes.append(f"clips have any length: planned for {num_frames} frames of 10 ms")
    recipe = published_recipe(settings)
    published = cli.settings(*recipe)
    plan = RunPlan(
        module,
        num_frames,
        placement,
        plan_step(module, layout.batch_size, num_frames, placement),
        layout,
        None,
        settings["clips"] or clips,
        settings["data"]["init_args"].get("last_batch", "pad"),
        1.0 if settings["trainer"]["limit_train_batches"] is None else settings["trainer"]["limit_train_batches"],
        " + ".join(f"configs/{name}.yaml" for name in recipe),
        layout_of(published, []),
        differences(published, settings),
        notes,
    )
    trainer = settings["trainer"]
    updates = trainer["max_steps"] if trainer["max_steps"] and trainer["max_steps"] > 0 else None
    if trainer["max_epochs"] and trainer["max_epochs"] > 0 and plan.updates_per_epoch:
        updates = min(updates or math.inf, trainer["max_epochs"] * plan.updates_per_epoch)
    if updates and updates <= (warmup := module.optimizer_config.warmup_updates):
        notes.append(f"the learning rate rises to the end: model.optimizer.warmup_updates is {warmup:,}")
    return plan._replace(updates=updates)


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
    step, layout = plan.step, plan.layout
    shapes, memory = step.shapes, step.memory
    learning = ", ".join(f"{name} {_short(count)}" for name, count in step.learning.items())
    frozen = ", ".join(f"{name} {_short(count)}" for name, count in step.frozen.items())
    frozen = f"; {frozen}" if frozen else ""
    yield _line("parameters", f"{_short(sum(step.learning.values()))} learn ({learning}){frozen}")
    masks = shapes.rows // shapes.clips
    mixed = " clean and mixed" if isinstance(plan.module, PretrainModule) and plan.module.mixing else ""
    yield _line(
        "step of a device",
        f"{layout.batch_size} clips{mixed} of {plan.num_frames / _FRAMES_PER_SECOND:g} s"
        + (f" x {masks} masks = {shapes.rows} rows" if shapes.hidden else ""),
    )
    encoder = plan.module.student if isinstance(plan.module, PretrainModule) else plan.module.encoder
    tokens = shapes.rows * (shapes.visible + encoder.config.clip_token)
    hidden = f", {shapes.rows * shapes.hidden:,} hidden patches to guess" if shapes.hidden else ""
    yield _line("tokens", f"{tokens:,} through the student ({shapes.visible} of {shapes.patches} patches a row){hidden}")
    operations = step.operations
    yield _line(
        "operations",
        f"{operations.total / 1e12:.3g} TFLOP: teacher {operations.teacher / operations.total:.0%}, "
        f"student {operations.student / operations.total:.0%}, "
        f"{'decoder' if shapes.hidden else 'head'} {operations.decoder / operations.total:.0%}, "
        f"backward {operations.backward / operations.total:.0%}",
    )
    yield _line(
        "memory of a device",
        f"{memory.total / _GIB:.1f} GiB by estimate: {memory.activations / _GIB:.1f} activations, "
        f"{memory.weights / _GIB:.1f} weights, {memory.gradients / _GIB:.1f} gradients, "
        f"{memory.optimizer / _GIB:.1f} optimizer, {memory.teacher / _GIB:.1f} "
        f"{'teacher' if shapes.hidden else 'frozen'}; temporary tensors take 10 to 20 % more",
    )
    yield _line("global batch", str(layout))
    yield _line("updates", f"{plan.updates:,}" if plan.updates else "no end is set: set trainer.max_steps")
    if plan.clips is None:
        yield _line("epochs", "unknown: the data are not here; say how many clips with --clips")
    elif per_epoch := plan.updates_per_epoch:
        count = f"{plan.updates / per_epoch:.4g} of " if plan.updates else ""
        yield _line("epochs", f"{count}{plan.clips:,} clips ({per_epoch:,} updates each)")
    if not clips_per_second:
        yield _line("time", "unknown: say how fast all devices together are with --clips_per_second")
    else:
        seconds = layout.global_batch / clips_per_second
        yield _line("time", _duration(plan.updates * seconds) if plan.updates else f"{seconds:.3g} seconds an update")
    for note in plan.notes:
        yield _line("note", note)
    yield ""
    yield from _compared(plan)


def _compared(plan: RunPlan) -> Iterator[str]:
    rows = [Difference("global batch", str(plan.published_layout.global_batch), str(plan.layout.global_batch))]
    rows = [row for row in (*rows, *plan.differences) if row.published != row.here]
    if not rows:
        yield f"the same as published ({plan.published})"
        return
    yield f"differences from {plan.published}"
    rows = [Difference("setting", "published", "here"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    yield from (f"  {row.key:<{widths[0]}}  {row.published:<{widths[1]}}  {row.here}".rstrip() for row in rows)


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


def _line(name: str, text: str) -> str:
    return f"{name:<20}{text}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"


def _duration(seconds: float) -> str:
    hours = seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{seconds / 60:.1f} minutes"
