"""``sslam demo``: a list of ordinary commands, and a table and a picture of what came out."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sslam_lightning.cli import run_trainer


class Step(NamedTuple):
    """One command of the demo: a run, the recipes that it layers, where it starts, and what it is called."""

    run: str
    title: str
    recipes: tuple[str, ...]
    init_from: str | None = None
    tested: bool = False


_TINY = ("overlays/sizes/tiny", "overlays/data/synthetic", "overlays/trainer/cpu")
_FINETUNE = ("finetune/audioset_20k", *_TINY, "runs/demo/finetune")
_LINEAR = (*_FINETUNE, "overlays/linear", "runs/demo/linear")
STEPS = (
    Step("stage1", "pre-training, stage 1", ("pretrain/eat_base", *_TINY, "runs/demo/stage1")),
    Step("stage2", "pre-training, stage 2", ("pretrain/sslam_base", *_TINY, "runs/demo/stage2"), "stage1"),
    Step("finetuned", "fine-tuned", _FINETUNE, "stage2", tested=True),
    Step("scratch", "the same from scratch", _FINETUNE, None, tested=True),
    Step("probe", "linear probe, pre-trained encoder", _LINEAR, "stage2", tested=True),
    Step("probe_untrained", "linear probe, untrained encoder", _LINEAR, None, tested=True),
)


def demo(folder: str = "runs/demo", seed: int = 0) -> None:
    """The whole method on synthetic soundscapes, in about three minutes on two CPU cores.

    Pre-trains a tiny SSLAM (stage 1, then stage 2), fine-tunes it, trains the same model from scratch on the same budget,
    evaluates linear probes, and writes a table and a picture. The same as the commands that it prints.

    Args:
        folder: where runs, table and picture go; must not exist yet.
        seed: of everything random.
    """
    root = Path(folder)
    if root.exists():
        raise FileExistsError(f"{root} exists already: move it, or name another folder with --folder")
    start = time.perf_counter()
    rows = []
    for number, step in enumerate(STEPS, start=1):
        print(f"\n[{number}/{len(STEPS)}] {step.title}\n", flush=True)
        try:
            rows.append(_run(step, root, seed))
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C; a run's own message says how its command goes on
            again = f"the demo itself begins anew: remove {root} first, or name another folder with --folder"
            print(f"sslam: {again}", file=sys.stderr)
            raise
    minutes = (time.perf_counter() - start) / 60
    table = _table(rows, minutes, seed)
    (root / "results.md").write_text(table)
    _draw(root / "stage2", root / "predictions.png")
    print(f"\n{table}\nPicture: {root / 'predictions.png'}")


def command(step: Step, root: Path, seed: int, subcommand: str = "fit") -> list[str]:
    """The arguments of ``sslam`` that run a step."""
    args = [subcommand, *(word for recipe in step.recipes for word in ("--config", recipe))]
    args += [f"--seed_everything={seed}", f"--trainer.default_root_dir={root / step.run}"]
    init_from = f"{root / step.init_from}/checkpoints/last.ckpt" if step.init_from else "null"
    args += [f"--model.init_from={init_from}"]
    if subcommand == "test":
        args += [f"--ckpt_path={root / step.run}/checkpoints/last.ckpt"]
    return [*args, "--trainer.enable_model_summary=false"]


def _run(step: Step, root: Path, seed: int) -> dict[str, str]:
    args = command(step, root, seed)
    print("sslam " + " ".join(args), flush=True)
    run_trainer(args)
    losses = _column(root / step.run, "train/loss")
    row = {"run": step.title, "loss at start": f"{losses[0]:.3f}", "loss at end": f"{losses[-1]:.3f}", "test mAP": ""}
    if step.tested:
        run_trainer(command(step, root, seed, "test"))
        row["test mAP"] = f"{_column(root / step.run, 'test/mAP')[-1]:.3f}"
    return row


def _column(run: Path, name: str) -> list[float]:
    """A logged quantity in the order of the run's logs."""
    values = []
    logs = (run / "logs").glob("**/version_*/metrics.csv")  # of training, and below it of the test
    for log in sorted(logs, key=lambda path: int(path.parent.name.removeprefix("version_"))):
        with log.open() as file:
            values += [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
    return [value for value in values if math.isfinite(value)]


def _table(rows: Sequence[dict[str, str]], minutes: float, seed: int) -> str:
    header = list(rows[0])
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(row.values())} |" for row in rows]
    return "\n".join(lines) + f"\n\nSynthetic soundscapes, seed {seed}, {minutes:.1f} minutes; mAP of last.ckpt.\n"


def _draw(run: Path, target: Path) -> None:
    """What the student of stage 2 predictions on clips that it did not train on."""
    import yaml

    from sslam_lightning.data import SyntheticDataModule
    from sslam_lightning.training import PretrainModule
    from sslam_lightning.training.pictures import draw_predictions

    module = PretrainModule.load_from_checkpoint(run / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)
    settings = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    data = SyntheticDataModule(**{**settings, "num_val": 8, "batch_size": 8, "num_workers": 0})
    data.setup("test")
    draw_predictions(module, next(iter(data.test_dataloader())), target)
