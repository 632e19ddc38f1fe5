"""A refused word ends with what it may mean, also if it is the word of another tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

import sweeper as api
from sweeper import storage as studies
from sweeper.cli.main import COMMANDS, cli
from sweeper.core.errors import UsageError
from sweeper.core.metrics import METRICS
from sweeper.core.text import CALLED_ELSEWHERE, CONVERSIONS
from sweeper.losses.families import FAMILIES
from tests.support.faking import new_plan

Sweeper = Callable[..., tuple[int, str, str]]

SLIPS = """
rnu cracks                         | did you mean `run`?
compare                            | did you mean `confirm` or `judge`?
grmblfx                            | ; there are run, confirm
fit                                | did you mean `train`?
tune cracks                        | did you mean `run`?
help run                           | did you mean `sweeper --help`?
status                             | did you mean `sweeper studies show`?
version                            | did you mean `sweeper --version`?
--trials 3                         | ; it is an option of `sweeper run`
list                               | did you mean `sweeper studies list`?
show demo                          | did you mean `sweeper studies show`?
demo                               | did you mean `sweeper report demo`?
cracks                             | did you mean `sweeper run cracks`?
.                                  | did you mean `sweeper run .`?
synthetic:street                   | did you mean `sweeper run synthetic:street`?
run street                         | did you mean `sweeper run synthetic:street`?
profile stret                      | did you mean `sweeper profile synthetic:street`?
run synthetic:stret                | did you mean `street`?
run crakcs                         | did you mean `cracks`?
run demo                           | did you mean `sweeper run --study demo --resume`?
run --resume --study dmeo          | did you mean `demo`?
run help                           | did you mean `sweeper run --help`?
run cracks --trails 5              | did you mean `--trials`?
run cracks -trials 5               | no such option, -trials, did you mean `--trials`?
run cracks --lr 0.1                | did you mean `--space` (a file with one `lr`; else one is found for all losses)?
run cracks --max_epochs 50         | did you mean `--steps` (epochs × images / batch size)?
run cracks --gpus 1                | did you mean `--device` or `--workers`?
run cracks --imgsz 512             | did you mean `--size`?
run cracks --image-size 512        | did you mean `--size`?
run cracks --backbone resnet18     | did you mean `--encoder`?
run cracks --num_workers 2         | did you mean `--workers`?
run cracks --num-classes 3         | did you mean `--class-map` (else the classes are those of the data)?
run cracks --val-split 0.2         | did you mean `--groups` (else the split is that of folders train, val, test or of
run cracks --work-dir out          | did you mean `sweeper run DATA` or `--out`?
run cracks --data-dir out          | did you mean `sweeper run DATA`?
run --data cracks                  | ; DATA is given without it
run cracks imgsz=512               | did you mean `--size`?
run cracks drawn                   | did you mean `sweeper run --images cracks --masks drawn`?
profile cracks drawn               | did you mean `sweeper profile --images cracks --masks drawn`?
run cracks --losses dice           | ; it is an option of `sweeper confirm`
train demo --epochs 3              | did you mean `--steps` (epochs
run cracks --loss dise_ce          | did you mean `--space dice_ce`?
run cracks --space dise_ce,tversky | did you mean `dice_ce`?
run cracks --space bnary           | did you mean `binary`?
run cracks --present ce            | did you mean `cross_entropy`?
run cracks --metric iuo            | did you mean `miou`?
run cracks --metric mIoU           | did you mean `miou`?
run cracks --augment ful           | 'ful' is not one of 'none', 'light', 'full', did you mean `full`?
run cracks --device gpu            | did you mean `cuda`?
run cracks --precision fp32        | did you mean `float32`?
run cracks --format coc            | did you mean `coco`?
run cracks --class-map map.yml     | File 'map.yml' does not exist, did you mean `map.yaml`?
profile cracks --trials 3          | ; it is an option of `sweeper run`
profile demo                       | did you mean `sweeper report demo`?
judge demo                         | did you mean `sweeper report demo`?
judge nope                         | got none; mlflow:nope would be an experiment
train dmeo                         | did you mean `demo`?
train cracks                       | did you mean `sweeper run cracks`?
train nope --trials 3              | no such option, --trials; it is an option of `sweeper run`
train --study demo                 | ; STUDY is given without it
train demo --on everything         | 'everything' is not one of
report reports/demo                | did you mean `sweeper report demo`?
report demo --open                 | ; there are --storage, --out and --json
predict demo --thresold 1          | did you mean `--threshold`?
predict demo cracks                | Missing option '--out': Folder for masks/
predict cracks --out o             | STUDY and IMAGES are needed, got only 'cracks'
confirm cracks                     | for DATA without a script, --losses dice_ce,tversky
confirm cracks --loss dice_ce      | ; it is an option of `sweeper run`
probe train.py                     | '--command': Command that starts the script, such as 'python train.py'
studies shwo                       | no such action, 'shwo', did you mean `show`?
studies demo                       | did you mean `sweeper studies show demo`?
losses dise                        | did you mean `dice`?
synth craks out                    | did you mean `cracks`?
doctor demo                        | did you mean `sweeper report demo`?
"""


@pytest.mark.parametrize("line", SLIPS.strip().splitlines())
def test_a_slip_is_answered_with_what_is_nearest(tmp_path: Path, sweeper: Sweeper, line: str) -> None:
    studies.create_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "demo", new_plan())
    (tmp_path / "cracks").mkdir()
    (tmp_path / "drawn").mkdir()
    (tmp_path / "map.yaml").touch()
    words, answer = line.split("|")
    status, out, err = sweeper(*words.split())
    assert (status, out) == (2, "") and answer.strip() in err and err.count("did you mean") <= 1


def test_no_hint_comes_from_the_letters_of_a_message(tmp_path: Path, sweeper: Sweeper) -> None:
    (tmp_path / "t.csv").write_text("method,miou\nce,0.5\n")
    (tmp_path / "scores").mkdir()
    for words in (("--present", "ce"), ("--ignore", "scores")):
        assert "did you mean" not in sweeper("judge", "t.csv", *words)[2]


def test_words_of_other_tools_are_understood_in_python_too() -> None:
    with pytest.raises(UsageError, match=r"imgsz: no option that can be given here, did you mean `size`\?"):
        api.run("synthetic:blobs", imgsz=512)


def test_each_of_our_names_that_a_word_leads_to_exists() -> None:
    ours, words = {*COMMANDS, *FAMILIES, *METRICS}, set[str]()
    commands = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    commands += [action for one in commands for action in getattr(one, "commands", {}).values()]
    for command in filter(None, commands):
        ours.add(str(command.name))
        for param in command.params:
            ours |= {str(param.name), *getattr(param.type, "choices", ())}
            words |= {option.strip("-").replace("-", "_") for option in param.opts if option.startswith("--")}
    assert CALLED_ELSEWHERE.keys() | CONVERSIONS.keys() <= ours | words
