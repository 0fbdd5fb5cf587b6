"""``sslam plan`` says what a run will be, without data and without a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sslam_lightning.__main__ import main
from sslam_lightning.benchmarks.memory import Arithmetic
from sslam_lightning.benchmarks.step_plan import Placement, plan_step
from sslam_lightning.features import LogMels
from sslam_lightning.models import EncoderConfig
from sslam_lightning.runtime.configs import config_folder
from sslam_lightning.training import DetectionModule

TINY = (
    "pretrain/eat_base",
    "overlays/sizes/tiny",
    "overlays/data/synthetic",
    "overlays/trainer/cpu",
    "runs/demo/stage1",
)


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch) -> Callable[..., list[str]]:
    """Lines that the command prints for shipped recipes and options, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*files: str, **options: object) -> list[str]:
        configs = [word for name in files for word in ("--config", f"{config_folder()}/{name}.yaml")]
        main(["plan", *configs, *(f"--{key.replace('__', '.')}={value}" for key, value in options.items())])
        assert list(tmp_path.iterdir()) == []  # nothing is written
        return capsys.readouterr().out.splitlines()

    return run


def _value(lines: list[str], name: str) -> str:
    (line,) = (line for line in lines if line.startswith(f"{name} "))
    return line.removeprefix(name).strip()


def test_the_published_run(plan):
    lines = plan("pretrain/eat_base", "overlays/as_published/stage1", clips=1_912_134, clips_per_second=500)
    assert _value(lines, "parameters").startswith("87.8 M learn (encoder 85.3 M, decoder 2.6 M); teacher 85.3 M")
    assert _value(lines, "step of a device") == "12 clips of 10.24 s x 16 masks = 192 rows"
    assert _value(lines, "tokens").startswith("19,776 through the student (102 of 512 patches a row), 78,720 hidden")
    assert _value(lines, "operations").startswith("12.9 TFLOP: teacher 9%, student 27%, decoder 4%, backward 61%")
    assert _value(lines, "global batch") == "48 clips = 4 devices x 12 clips"
    assert _value(lines, "updates") == "400,000"
    assert _value(lines, "epochs") == "10.04 of 1,912,134 clips (39,837 updates each)"  # of 48 clips, the last filled up
    assert _value(lines, "time") == "10.7 hours"  # 400 000 x 48 / 500 seconds
    published = "configs/pretrain/eat_base.yaml + configs/overlays/as_published/stage1.yaml"
    assert lines[-1] == f"the same as published ({published})"


def test_every_difference_from_the_published_recipe(plan):
    lines = plan("pretrain/sslam_base", "overlays/trainer/gpu_pretrain", data__batch_size=6, model__ema__decay=0.999)
    assert _value(lines, "global batch") == "24 clips = 1 device x 6 clips x 4 accumulated"
    assert _value(lines, "epochs") == "unknown: the data are not here; say how many clips with --clips"
    assert _value(lines, "time").startswith("unknown: say how fast")
    absent_data, absent_start = (line for line in lines if line.startswith("note "))
    assert "manifest data/audioset/train.tsv does not exist" in absent_data
    assert absent_start.endswith("(model.init_from) are not here: no checkpoint at runs/eat_base/checkpoints/last.ckpt")
    start = lines.index("differences from configs/pretrain/sslam_base.yaml + configs/overlays/as_published/stage2.yaml")
    assert [line.split() for line in lines[start + 1 :]] == [
        ["setting", "published", "here"],
        ["global", "batch", "48", "24"],
        ["data.batch_size", "12", "6"],
        ["model.collapse.min_pred_std", "0.0", "0.01"],
        ["model.collapse.min_target_std", "0.0", "0.1"],
        ["model.collapse.min_token_std", "0.0", "0.01"],
        ["model.ema.decay", "0.9998", "0.999"],
        ["model.mixing.padding", "covers", "gives_way"],
        ["model.mixing.partner", "previous", "neighbor"],
        ["model.mixing.regions", "per_batch", "per_clip"],
        ["model.optimizer.decay_all", "true", "false"],
        ["model.utterance.reduction", "sum", "mean"],
        ["model.utterance.weight", "1.0", "192.0"],
        ["trainer.precision", "16-mixed", "bf16-mixed"],
    ]


def test_data_that_are_here_are_counted(plan):
    lines = plan(*TINY, data__num_train=640, clips_per_second=32)
    assert _value(lines, "epochs") == "15 of 640 clips (20 updates each)"  # 300 updates of 32 clips
    assert _value(lines, "time") == "5.0 minutes"
    assert "differences from configs/pretrain/eat_base.yaml + configs/overlays/as_published/stage1.yaml" in lines
    lines = plan(*TINY, trainer__accumulate_grad_batches=3, trainer__max_epochs=2, trainer__max_steps=-1)
    assert _value(lines, "updates") == "42"  # 2000 // 32 = 62 batches, 21 updates an epoch
    assert _value(lines, "global batch") == "96 clips = 1 device x 32 clips x 3 accumulated"
    epochs = {"trainer__max_epochs": 3, "trainer__max_steps": -1}
    for limit, updates in ((10, "30"), (0.5, "93"), (1000, "189")):  # of 63 batches, the last filled up
        assert _value(plan(*TINY, trainer__limit_train_batches=limit, **epochs), "updates") == updates


def test_speed_and_clips_count_without_an_end(plan):
    """Settings are used or refused: both were passed over where nothing ends the run."""
    endless = {"trainer__max_steps": -1, "trainer__max_epochs": -1}
    lines = plan(*TINY, clips=640, clips_per_second=64, **endless)
    assert _value(lines, "epochs") == "640 clips (20 updates each)"
    assert _value(lines, "time") == "0.5 seconds an update"


def test_clips_of_any_length_are_counted_as_the_log_mels_count_them(plan):
    """10 s make 998 frames of 25 ms, the last patch is filled up to 1008; all 63 x 8 patches and no CLS token a row."""
    options = {"model__features": "{num_frames: null}", "data__max_clip_seconds": 10, "trainer__max_steps": 2}
    lines = plan("finetune/audioset_20k", model__encoder__cls_token="false", **options)
    notes = [line for line in lines if line.startswith("note ")]
    assert any("clips have any length: planned for 1008 frames of 10 ms" in note for note in notes)
    assert any("rises to the end: model.optimizer.warmup_steps is 4,000" in note for note in notes)
    clips = int(_value(lines, "step of a device").split()[0])
    assert _value(lines, "tokens").startswith(f"{clips * 504:,} through the student (504 of 504 patches a row)")


def test_weights_are_shared_out_or_copied(plan):
    """The large model: four moments and copies of 308.5 million parameters, and a teacher of 302.6 million."""
    options = {"trainer__devices": 8, "trainer__strategy": "ddp"}
    alone = _value(plan("pretrain/eat_large", trainer__devices=1), "memory of a device")
    ddp = _value(plan("pretrain/eat_large", **options), "memory of a device")
    fsdp = _value(plan("pretrain/eat_large", "overlays/trainer/fsdp", trainer__devices=8), "memory of a device")
    assert "1.1 weights, 1.1 gradients, 2.3 optimizer, 1.1 teacher" in alone
    assert "1.1 weights, 2.3 gradients, 2.3 optimizer, 1.1 teacher" in ddp
    assert "0.1 weights, 0.1 gradients, 0.3 optimizer, 0.1 teacher" in fsdp


def test_fine_tuning_is_compared_with_its_own_recipe(plan):
    files = ("finetune/esc50", "overlays/as_published/finetune", "overlays/as_published/linear")
    lines = plan(*files)
    assert lines[-1] == f"the same as published ({' + '.join(f'configs/{file}.yaml' for file in files)})"
    files = ("finetune/audioset_2m", "overlays/as_published/finetune", "overlays/as_published/mixup")
    lines = plan(*files, "overlays/trainer/gpu")
    assert _value(lines, "epochs") == "144 of 200,000 clips (2,084 updates each)"  # the recipe's own samples_per_epoch
    assert lines[-3] == f"differences from {' + '.join(f'configs/{file}.yaml' for file in files)}"
    assert lines[-1].split() == ["trainer.precision", "16-mixed", "bf16-mixed"]


def test_detection_is_counted_by_frames(plan):
    lines = plan("finetune/dcase2016_task2")
    assert lines[-1] == "the same as published (configs/finetune/dcase2016_task2.yaml)"
    assert _value(lines, "operations").startswith("4.66 TFLOP: teacher 0%, student 33%")
    module = DetectionModule(EncoderConfig(dim=16, depth=1, num_heads=2), LogMels(num_frames=64), num_classes=3)
    step = plan_step(module, batch_size=5, num_frames=64, placement=Placement(Arithmetic()))
    assert step.operations.decoder == 2 * 5 * 16 * 3 * 4  # 4 columns, not 32 patches


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("clips", 0, "clips must be positive, got 0"),
        ("clips_per_second", -1, "clips_per_second must be positive, got -1"),
        ("trainer__devices", 0, "trainer.devices must be auto, a positive number or a list of numbers, got 0"),
        ("trainer__devices", "x", "trainer.devices must be auto, a positive number or a list of numbers, got x"),
        ("trainer__num_nodes", 0, "trainer.num_nodes must be at least 1, got 0"),
        ("trainer__accumulate_grad_batches", 0, "trainer.accumulate_grad_batches must be at least 1, got 0"),
    ],
)
def test_what_makes_no_plan_is_told(plan, capsys, option, value, told):
    with pytest.raises(SystemExit):
        plan(
            "pretrain/eat_base",
            "overlays/data/synthetic",
            "overlays/sizes/tiny",
            "overlays/trainer/cpu",
            **{option: value},
        )
    assert f"sslam: error: {told}" in capsys.readouterr().err


def test_a_misspelt_setting_is_named(plan, capsys):
    with pytest.raises(SystemExit):
        plan("pretrain/eat_base", model__masks_per_clipp=3)
    told = "Option 'model.masks_per_clipp' is not accepted: did you mean model.masks_per_clip? (see sslam plan --help)"
    assert told in capsys.readouterr().err
