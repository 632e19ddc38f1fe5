"""`sweeper confirm`: the comparison with a script that is a function here; tests/e2e has real ones."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from sweeper.core.errors import InterruptedSweepError, ScriptError, UsageError
from sweeper.core.paths import COMPARISONS
from sweeper.core.records.training import BINS, TAUS
from sweeper.evidence.answer_text import format_answer
from sweeper.evidence.phrases import format_head
from sweeper.report.judgement import write_judgement
from sweeper.scripts import confirm, starter
from sweeper.scripts.comparison_plan import ConfirmationPlan, fill_losses, parse_losses, write_plan
from sweeper.scripts.confirm import FIRST_SEED, Confirmation, confirm_losses, write_confirmation
from sweeper.scripts.contract import HELPER_VERSION, RESULTS, VALIDATED, Split
from sweeper.scripts.launch import ScriptEnd
from sweeper.scripts.probe import ProbeDocument
from sweeper.scripts.starter import ScriptStarter, share_gpus
from sweeper.scripts.trainings import ScriptTrainings
from sweeper.workflow.comparison import resume_plan
from sweeper.workflow.settings import ConfirmOptions
from sweeper.workflow.status import COMPARISON_STATUS, Heartbeat
from sweeper.workflow.studies import list_comparison_rows, write_comparison_answer
from tests.support import mlflow_template
from tests.support.damage import DAMAGE
from tests.support.pasting import run_text
from tests.support.schemas import problems

PIXELS = 1000
NAMES = {"val": ["v1", "v2", "v3", "v4"], "test": [f"t{n}" for n in range(12)]}


class Script:
    """A script as a function of its trial: `quality` is the share of foreground that it finds."""

    kind = "logits"
    classes = 2
    is_overlapping = False
    pairing = "exact"
    noise = 0.01
    ignore_index = 255
    drawn: tuple[Split, ...] = ()

    def __init__(self) -> None:
        self.trained: list[dict[str, Any]] = []
        self.environments: list[Mapping[str, str]] = []

    def quality(self, trial: dict[str, Any]) -> float:
        """Return the planted quality; both losses share the effect of a seed."""
        rng = np.random.default_rng([trial["seed"], 0])
        of_loss = np.random.default_rng([trial["seed"], zlib.crc32(trial["family"].encode())])
        gap = self.gaps.get(trial["family"], 0.0)
        return 0.6 + gap + self.noise * (3 * rng.standard_normal() + of_loss.standard_normal())

    gaps: dict[str, float] = {"dice": 0.08}  # noqa: RUF012
    finite = True
    status = 0
    last: tuple[str, ...] = ()

    def end(self, _trial: dict[str, Any]) -> ScriptEnd:
        """Return the end of the training."""
        return ScriptEnd(self.status, 1.5, False, 100, self.last)

    def names(self, trial: dict[str, Any], split: str) -> list[str]:
        """Return the images of a split."""
        if split == "val" or trial["fold"] is None:
            return NAMES[split]
        return NAMES[split][trial["fold"] :: 3]

    def run(self, _words: Sequence[str], folder: Path, *, environment: Mapping[str, str], **_: Any) -> ScriptEnd:
        """Write what a script would write."""
        trial = json.loads((folder / "trial.json").read_text())
        self.trained.append(trial)
        self.environments.append(environment)
        end = self.end(trial)
        progress = {"calls": 40, "pixels": None, "length": 10.0, "runs": {"wandb": "team/cracks/1a"}}
        names = [f"class{n}" for n in range(self.classes)]
        events: list[dict[str, Any]] = [
            {
                "event": "start",
                "seconds": 0.0,
                "version": HELPER_VERSION,
                "classes": names,
                "overlap": self.is_overlapping,
                "ignore_index": 255,
            },
            {"event": "epoch", "seconds": 1.0, "done": 10.0, **progress},
        ]
        if end.status == 0:
            for split in trial["splits"]:
                images = self.names(trial, split) if self.kind != "number" else [""]
                data = self.make_scores(trial, split, images)
                np.savez(folder / f"{split}.npz", names=np.array(images), data=data)
                (folder / VALIDATED).mkdir(exist_ok=True)
                line = {"split": split, "what": self.kind, "finite": self.finite, "network": "one"}
                events.append({"event": "scores", "seconds": 1.4, **line, **progress})
        (folder / RESULTS).write_text("".join(json.dumps(event) + "\n" for event in events))
        return end

    def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
        """Return the scores of some images, by the kind."""
        rng = np.random.default_rng([trial["seed"], len(split), trial["fold"] or 0])
        quality = np.clip(self.quality(trial) + 0.05 * rng.standard_normal(len(images)), 0.01, 0.99)
        if self.kind in ("score", "number"):
            return quality
        tp = np.round(100 * quality).astype(int)
        fp = fn = 100 - tp
        if self.kind == "counts" or self.classes > 2:
            rows = np.zeros((len(images), self.classes, 3), dtype=int)
            rows[:, 0] = np.stack([PIXELS - fp, fn, fp], axis=-1)
            rows[:, 1:] = np.stack([tp, fp, fn], axis=-1)[:, None]
            return rows if self.kind == "counts" else np.repeat(rows[:, None], len(TAUS), axis=1)
        data = np.zeros((len(images), 2, BINS), dtype=int)
        data[:, 1, 400], data[:, 1, 100] = tp, fn
        data[:, 0, 400], data[:, 0, 100] = fp, PIXELS - fp
        return data


def make_script(base: type[Script] = Script, **changes: Any) -> Script:
    """Return a script of a kind with other attributes or methods."""
    return type("Made", (base,), changes)()


Compare = Callable[..., Confirmation]
RESUME_COMMAND = "sweeper confirm --study own --resume --tracking-uri sqlite:///elsewhere.db --out 'my reports'"


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Compare losses in a `Script` without starting anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starter, "end_processes", lambda folder: None)

    def run(script: Script, losses: str = "dice", *, workers: int = 1, **changes: Any) -> Confirmation:
        monkeypatch.setattr(starter, "run_script", script.run)
        options = {name: changes.pop(name) for name in ("is_stopped", "log") if name in changes}
        plan = make_plan(script, losses, **changes)
        starts = ScriptStarter("train", workers=workers, **options)
        training = ScriptTrainings(starts, tmp_path / "own", plan.task, options.get("log", lambda _: None))
        return confirm_losses(plan, training, resume_command=RESUME_COMMAND)

    return run


def make_plan(script: Script, losses: str, **changes: Any) -> ConfirmationPlan:
    """Return the plan of a comparison in a script that was probed."""
    probe = ProbeDocument(
        command="train",
        pairing=script.pairing,
        scores={"val": script.kind, "test": script.kind},
        images={"val": 4, "test": 12},
        drawn=script.drawn,
        class_pixels={f"class{n}": 900 if n == 0 else 100 for n in range(script.classes)},
        ignore_index=script.ignore_index,
        ignored_pixels=0,
        length=10.0,
        seconds_per_step=0.1,
        seconds_per_training=60.0,
        notes=(),
    )
    fields = {
        "name": "own", "command": "train", "losses": parse_losses(losses), "seeds": (3, 5), "rates": (1.0,),
        "rate_share": 0.25, "folds": None, "metric": "miou", "sources": {}, "commit": None, "probe": probe, **changes,
    }  # fmt: skip
    plan = ConfirmationPlan(**fields)
    return plan.model_copy(update={"losses": fill_losses(plan.losses, plan.task)})


@pytest.mark.parametrize("kind", ["logits", "counts", "score", "number"])
@pytest.mark.parametrize("pairing", ["exact", "none"])
def test_a_planted_gain_is_found_from_every_kind_of_scores(compare: Compare, kind: str, pairing: str) -> None:
    confirmation = compare(make_script(kind=kind, pairing=pairing, noise=0.003), seeds=(3, 8))
    answer = confirmation.answer
    assert (answer.outcome, answer.use.loss, answer.present, answer.next) == ("change", "dice", "cross_entropy", ())
    gap = answer.differences[0]
    assert (gap.first, gap.established) == ("dice", True) and gap.estimate == pytest.approx(0.08, abs=0.045)
    assert confirmation.judgement.contest.paired == (pairing == "exact")
    assert answer.scale.score == ("mIoU" if kind in ("logits", "counts") else "score")
    assert not problems(answer.document)


def test_a_gain_counts_against_the_present_loss(compare: Compare) -> None:
    script = make_script(gaps={"dice": 0.08, "tversky": 0.08}, noise=0.003)
    answer = compare(script, "dice,cross_entropy,tversky", seeds=(3, 8), present="tversky").answer
    assert (answer.outcome, answer.use.loss, answer.present) == ("keep", "tversky", "tversky")


def test_several_classes_are_compared(compare: Compare) -> None:
    made = compare(make_script(classes=4, noise=0.004))
    assert made.answer.outcome == "change" and {row.point for row in made.trainings} <= {*TAUS}


@pytest.mark.parametrize("gaps", [{"dice": 0.08}, {}])
def test_an_answer_names_the_classes_that_no_training_learned(compare: Compare, gaps: dict[str, float]) -> None:
    class Short(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            scores = super().make_scores(trial, split, images)
            scores[..., 3, 2] += scores[..., 3, 0]  # not predicted
            scores[..., 3, :2] = 0
            return scores

    answer = compare(make_script(Short, kind="counts", classes=4, noise=0.003, gaps=gaps)).answer
    assert "Not learned by any loss: class class3." in format_head(answer)


def test_equal_losses_keep_cross_entropy(compare: Compare) -> None:
    answer = compare(make_script(gaps={}, noise=0.001)).answer
    assert answer.outcome == "keep" and not answer.next and {row.seeds for row in answer.losses} == {3}
    assert format_head(answer).startswith("Keep `cross_entropy`: no other loss gains more than 0.0")


def test_an_open_comparison_names_the_command_that_would_settle_it(compare: Compare) -> None:
    answer = compare(make_script(gaps={"dice": 0.03}, noise=0.03)).answer
    assert (answer.outcome, answer.sure) == ("keep", "open") and {row.seeds for row in answer.losses} == {5}
    assert "Keep `cross_entropy` for now: another loss may gain up to 0.0" in format_head(answer)
    (step,) = answer.next
    assert (step.code, step.command) == ("SEEDS", f"{RESUME_COMMAND} --seeds {step.values['seeds']}")
    assert 5 < step.values["seeds"] < 40


@pytest.mark.parametrize("pairing", ["exact", "none"])
def test_a_change_that_an_analysis_established_stays_while_seeds_go_to_another_loss(
    compare: Compare, pairing: str
) -> None:
    def quality(_: Script, trial: dict[str, Any]) -> float:
        seed = trial["seed"] - FIRST_SEED
        dice = [0.05, 0.051, 0.049, 0.0][seed]
        return 0.6 + {"dice": dice, "tversky": 0.05 * (-1) ** seed, "cross_entropy": 0.0}[trial["family"]]

    answer = compare(make_script(kind="number", pairing=pairing, quality=quality), "dice,tversky", seeds=(3, 4)).answer
    assert {row.seeds for row in answer.losses} == {4}
    assert (answer.outcome, answer.sure, answer.use.loss) == ("change", "established", "dice")


def test_worse_losses_get_no_more_seeds(compare: Compare) -> None:
    answer = compare(make_script(gaps={"dice": -0.2}, noise=0.004)).answer
    assert (answer.outcome, answer.next) == ("keep", ()) and {row.seeds for row in answer.losses} == {3}
    assert "gains more than 0.00" in format_head(answer)


@pytest.mark.slow
def test_false_changes_are_rare(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A/A: both losses are one; 5 % of 100 comparisons are 5, and 14 has a chance below 0.1 %."""
    changes = 0
    for sweep in range(100):
        (tmp_path / f"{sweep}").mkdir()
        shift = sweep * 100

        def quality(self: Script, trial: dict[str, Any], shift: int = shift) -> float:
            return Script.quality(self, {**trial, "seed": trial["seed"] + shift})

        monkeypatch.setattr(confirm, "FIRST_SEED", 1000)
        script = make_script(gaps={}, quality=quality, kind="number", noise=0.05)
        monkeypatch.setattr(starter, "run_script", script.run)
        plan = make_plan(script, "dice")
        trainings = ScriptTrainings(ScriptStarter("x"), tmp_path / f"{sweep}", plan.task)
        confirmation = confirm_losses(plan, trainings, resume_command=RESUME_COMMAND)
        changes += confirmation.answer.outcome == "change"
    assert changes < 14


def test_each_loss_gets_its_best_rate(compare: Compare) -> None:
    def quality(self: Script, trial: dict[str, Any]) -> float:
        best = 3.0 if trial["family"] == "dice" else 1 / 3
        return Script.quality(self, trial) - 0.2 * abs(np.log(trial["lr_factor"] / best))

    script = make_script(quality=quality, noise=0.004)
    answer = compare(script, rates=(1 / 3, 1.0, 3.0)).answer
    assert {row.loss: row.lr for row in answer.losses} == {"cross_entropy": pytest.approx(1 / 3), "dice": 3.0}
    tuned = [trial for trial in script.trained if trial["kind"] == "search"]
    assert len(tuned) == 6
    assert {(trial["seed"], trial["share"], *trial["splits"]) for trial in tuned} == {(1, 0.25, "val")}
    assert {trial["seed"] for trial in script.trained if trial["kind"] == "confirm"} == {1000, 1001, 1002}
    assert {r.values["losses"] for r in answer.remarks if r.code == "RATE_END"} == {("dice",), ("cross_entropy",)}


def test_a_rate_at_which_the_script_fails_is_not_chosen(compare: Compare) -> None:
    def end(self: Script, trial: dict[str, Any]) -> ScriptEnd:
        return ScriptEnd(int(trial["lr_factor"] == 3), 1.0, False, 9, ("loss is NaN",))

    answer = compare(make_script(end=end), rates=(1.0, 3.0)).answer
    assert {row.lr for row in answer.losses} == {1.0}
    assert "3 × the rate) failed" in answer.find("BAD_TRAININGS").values["text"]


def test_a_loss_that_fails_at_every_rate_ends_the_comparison(compare: Compare) -> None:
    with pytest.raises(ScriptError, match=r"dice, all its rates(?s:.*)status 1(?s:.*)\n    Remove that folder"):
        compare(
            make_script(end=lambda s, t: ScriptEnd(int(t["family"] == "dice"), 1.0, False, 9, ())), rates=(1.0, 3.0)
        )


class Diverging(Script):
    """A script whose trainings diverge where a trial is of some kind."""

    def __init__(self, is_diverging: Callable[[dict[str, Any]], bool]) -> None:
        super().__init__()
        self.is_diverging = is_diverging

    def end(self, trial: dict[str, Any]) -> ScriptEnd:
        self.finite = not self.is_diverging(trial)
        return super().end(trial)


def test_a_diverged_training_counts_with_a_score_of_zero(compare: Compare) -> None:
    made = compare(Diverging(lambda trial: trial["seed"] == 1001))
    assert {(row.state, row.test) for row in made.trainings if row.seed == 1001} == {("diverged", 0.0)}
    assert "dice (seed 1001, 1 × the rate) diverged" in made.answer.find("BAD_TRAININGS").values["text"]


def test_a_training_whose_last_logits_are_finite_has_not_diverged(compare: Compare) -> None:
    class Recovers(Script):
        def run(self, _words: Sequence[str], folder: Path, **more: Any) -> ScriptEnd:
            ended = super().run(_words, folder, **more)
            first = (folder / RESULTS).read_text().replace('"finite": true', '"finite": false')
            (folder / RESULTS).write_text(first + (folder / RESULTS).read_text())
            return ended

    assert {row.state for row in compare(Recovers()).trainings} == {"trained"}


def test_seeds_whose_operating_point_fails_on_the_test_are_named(compare: Compare) -> None:
    """Validation has the last weights, and the test restored ones, in the second seed's trainings of one loss."""

    class Restored(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            data = super().make_scores(trial, split, images)
            is_other = split == "test" and trial["family"] == "dice" and trial["seed"] == FIRST_SEED + 1
            return np.roll(data, -160, axis=-1) if is_other else data

    made = compare(make_script(Restored))
    (training,) = made.answer.find("POINT_FAILS").values["trainings"]
    assert training.startswith(f"dice, seed {FIRST_SEED + 1} (0.")
    lost = {(row.loss, row.seed): row.lost for row in made.trainings if row.purpose == "confirm"}
    assert lost.pop(("dice", FIRST_SEED + 1)) > 0.2 and max(lost.values()) < 0.01
    assert not [*Path.cwd().rglob(VALIDATED)]


def test_a_loss_that_always_diverges_is_listed_and_not_judged(compare: Compare) -> None:
    answer = compare(Diverging(lambda trial: trial["family"] == "jaccard"), "dice,jaccard").answer
    *judged, lost = answer.losses
    assert {row.loss for row in judged} == {"cross_entropy", "dice"}
    assert (lost.loss, lost.score, lost.mean, lost.cost, lost.collapses) == ("jaccard", None, 0.0, None, lost.seeds)
    assert re.search(r"jaccard +0\.000 +\(", format_answer(answer, 80))
    assert "jaccard (seed 1000, 1 × the rate) diverged" in answer.find("BAD_TRAININGS").values["text"]


@pytest.mark.parametrize("kind", ["logits", "counts"])
@pytest.mark.parametrize("pairing", ["exact", "none"])
def test_losses_that_never_learn_are_compared(compare: Compare, kind: str, pairing: str) -> None:
    """Cross-entropy answers "background" everywhere, with any seed, and so does another loss."""

    class Constant(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            scores = super().make_scores(trial, split, images)
            if trial["family"] == "dice":
                return scores
            if kind == "counts":
                scores[:] = np.array([[PIXELS, 100, 0], [0, 0, 100]])
            else:
                scores[:] = 0
                scores[:, 0, 100], scores[:, 1, 100] = PIXELS, 100
            return scores

    answer = compare(make_script(Constant, kind=kind, pairing=pairing), "dice,jaccard").answer
    assert (answer.outcome, answer.use.loss, answer.next) == ("change", "dice", ())
    rows = {row.loss: row for row in answer.losses}
    assert rows["cross_entropy"].mean == rows["jaccard"].mean < rows["dice"].mean


@pytest.mark.parametrize("kind", ["logits", "counts", "score", "number"])
def test_no_loss_is_recommended_where_counts_show_that_all_answer_alike(compare: Compare, kind: str) -> None:
    """All answer "background" everywhere, at each rate."""

    class Constant(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            scores = super().make_scores(trial, split, images)
            if kind == "logits":
                scores[:] = 0
                scores[:, 0, 100], scores[:, 1, 100] = PIXELS, 100
            else:
                scores[:] = np.array([[PIXELS, 100, 0], [0, 0, 100]]) if kind == "counts" else 0.25
            return scores

    made = compare(make_script(Constant, kind=kind), "dice,jaccard", rates=(0.3, 1.0))
    answer, is_known = made.answer, kind in ("logits", "counts")
    assert (answer.outcome, answer.use and answer.use.loss, answer.next) == (
        ("none", None, ()) if is_known else ("keep", "cross_entropy", ())
    )
    assert {answer.find(code) is not None for code in ("UNLEARNED", "WEAK")} == {is_known}
    assert answer.find("IMBALANCE").values == {"rarest": "class1", "share": 0.1, "ratio": 9.0}
    write_confirmation(made, Path("report"))
    assert Path("report", "loss.py").exists() is not is_known
    assert answer.find("UNTUNED").values == {"losses": ("cross_entropy", "dice", "jaccard")}


def test_networks_that_predict_one_class_at_the_plain_point_are_compared(compare: Compare) -> None:
    class Low(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            scores = super().make_scores(trial, split, images)
            scores[..., 200] = scores[..., 400]  # below a probability of 0.5
            scores[..., 400] = 0
            return scores

    answer = compare(make_script(Low, noise=0.004)).answer
    assert answer.outcome == "change" and answer.find("POINT_HANGS").values["loss"] == "none"


def test_losses_whose_operating_point_is_at_an_end_are_named(compare: Compare) -> None:
    class Far(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            scores = super().make_scores(trial, split, images)
            if trial["family"] == "dice":
                scores[..., [BINS - 1, BINS - 2]] = scores[..., [400, 100]]
                scores[..., [400, 100]] = 0
            return scores

    assert compare(make_script(Far)).answer.find("POINT_END").values == {"losses": ("dice",)}


def test_a_gain_that_an_analysis_established_stays_so(compare: Compare) -> None:
    """Of two rivals one is far ahead on three seeds and not later; the other is open."""
    late = {1003: -0.3, 1004: 0.3}

    def quality(self: Script, trial: dict[str, Any]) -> float:
        gap = {"dice": 0.1 + late.get(trial["seed"], 0.0), "jaccard": 0.03 * (-1) ** trial["seed"]}
        return 0.6 + gap.get(trial["family"], 0.0) + 1e-4 * (trial["seed"] % 3)

    answer = compare(make_script(quality=quality, kind="number"), "dice,jaccard").answer
    assert (answer.outcome, answer.use.loss, {row.seeds for row in answer.losses}) == ("change", "dice", {5})
    assert 0 < answer.gain.low <= answer.gain.estimate


def test_a_comparison_whose_trainings_all_diverge_is_an_error(compare: Compare) -> None:
    with pytest.raises(ScriptError, match="all trainings of cross_entropy and dice diverged"):
        compare(make_script(finite=False))


def test_the_folds_of_a_seed_count_as_one_training_over_all_images(compare: Compare) -> None:
    script = make_script(noise=0.004)
    answer = compare(script, folds=3).answer
    assert answer.outcome == "change" and answer.images == 12
    assert "multiplied by K/(K − 1), here K = 3" in str(answer.remarks)
    assert len(script.trained) == 3 * 2 * 3 and {trial["fold"] for trial in script.trained} == {0, 1, 2}


@pytest.mark.parametrize("kind", ["logits", "counts"])
@pytest.mark.parametrize("rates", [(1.0,), (0.5, 1.0)])
def test_labels_drawn_at_random_are_refused_after_the_second_training(
    compare: Compare, kind: str, rates: tuple[float, ...]
) -> None:
    class RandomLabels(Script):
        def make_scores(self, trial: dict[str, Any], split: str, images: list[str]) -> Any:
            scores = super().make_scores(trial, split, images)
            if kind == "counts":
                scores[0, 0, 0] += len(self.trained)
            else:
                scores[0, 0, 100] += len(self.trained)
            return scores

    script = make_script(RandomLabels, kind=kind)
    text = r"dice, seed 1(?s:.*)'v1' of val has 1,001 pixels of class 0 in one and 1,002 in another; draw the data with"
    with pytest.raises(ScriptError, match=text):
        compare(script, rates=rates)
    assert len(script.trained) == 2
    with pytest.raises(ScriptError, match=text.replace("1,002", "1,003")):  # the failed training is trained again
        compare(script, rates=rates)
    assert len(script.trained) == 3


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_training_on_other_images_fails_and_blocks_nothing(compare: Compare, split: str) -> None:
    """Its data changed while the comparison was interrupted, and were put back."""

    def names(self: Script, trial: dict[str, Any], of_split: str) -> list[str]:
        strays = self.strays and trial["seed"] == FIRST_SEED + 1 and of_split == split
        return [f"another {name}" if strays else name for name in NAMES[of_split]]

    script = make_script(names=names, strays=True, noise=0.004)
    for _ in range(2):
        with pytest.raises(ScriptError, match=f"images of {split} must be the same in each training"):
            compare(script)
    script.strays = False
    assert compare(script).answer.outcome == "change"


@pytest.mark.parametrize("kind", ["logits", "score"])
def test_test_images_drawn_with_the_seed_are_refused(compare: Compare, kind: str) -> None:
    script = make_script(
        kind=kind, names=lambda self, trial, split: [f"{name} of {trial['seed']}" for name in NAMES[split]]
    )
    with pytest.raises(ScriptError, match="images of test must be the same in each training, and 't0 of 1000' is in"):
        compare(script)
    assert len(script.trained) == 3


def test_validation_images_may_be_drawn_with_the_seed(compare: Compare) -> None:
    def names(_: Script, trial: dict[str, Any], split: str) -> list[str]:
        return [f"v{trial['seed']}"] if split == "val" else NAMES[split]

    assert compare(make_script(names=names, noise=0.004, drawn=("val",))).answer.outcome == "change"


def test_folds_that_share_test_images_are_refused_at_once(compare: Compare) -> None:
    script = make_script(names=lambda self, trial, split: NAMES[split])
    text = "each image must be tested in one fold, and 12 images are in two, such as 't0'"
    with pytest.raises(ScriptError, match=text):
        compare(script, folds=3)
    assert len(script.trained) == 3


@pytest.mark.parametrize(
    ("status", "last", "times"),
    [(1, "torch.OutOfMemoryError: CUDA out of memory. Tried", 2), (-9, "", 2), (1, "KeyError: 'mask'", 1)],
)
def test_a_training_is_repeated_only_after_a_device_fault_or_full_memory(
    compare: Compare, status: int, last: str, times: int
) -> None:
    script = make_script(end=lambda s, t: ScriptEnd(status, 1.0, False, 9, (last,)))
    text = "--resume continues if the script stays as it is; after a change"
    if "KeyError" in last:
        text = rf"Its last lines:\n      {last}\n    {text}"
    with pytest.raises(ScriptError, match=text):
        compare(script)
    assert len(script.trained) == times and script.trained[-1]["resumed"] == (times == 2)


def test_a_killed_training_of_the_tuning_is_no_result(compare: Compare) -> None:
    script = make_script(end=lambda s, t: ScriptEnd(-9 * (t["lr_factor"] == 0.5), 1.0, False, 9, ()), noise=0.003)
    with pytest.raises(ScriptError, match=r"0\.5 × the rate"):
        compare(script, rates=(0.5, 1.0))


def test_a_wait_for_processes_of_a_script_is_reported_once(compare: Compare) -> None:
    lines: list[str] = []
    document = compare(
        make_script(end=lambda s, t: ScriptEnd(0, 36.2, False, 9, (), 30.0), noise=0.003), log=lines.append
    )
    words = "cross_entropy, seed 1000: it left processes that hold its output open: waited 30 s"
    assert [line for line in lines if "left" in line] == [words]
    assert {row.seconds for row in document.trainings} == {36.2}


def test_a_crash_loses_no_finished_training(compare: Compare, tmp_path: Path) -> None:
    def end(self: Script, trial: dict[str, Any]) -> ScriptEnd:
        return ScriptEnd(int(trial["seed"] == 1002 and self.crashes), 1.0, False, 9, ("KeyError",))

    script = make_script(end=end, crashes=True, noise=0.003)
    with pytest.raises(ScriptError, match="cross_entropy, seed 1002"):
        compare(script)
    assert len(script.trained) == 5
    script.crashes = False
    resumed = compare(script).answer
    assert len(script.trained) == 5 + 2
    (tmp_path / "own").rename(tmp_path / "before")
    assert compare(make_script(noise=0.003)).answer == resumed


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["ended.json", "test.npz", RESULTS, "trial.json", "log.txt"])
def test_a_damaged_training_is_done_again_once(compare: Compare, tmp_path: Path, name: str, kind: str) -> None:
    script, lines = make_script(noise=0.003), list[str]()
    answer = compare(script).answer
    folder = min((tmp_path / "own").glob("confirm-dice-*"))
    is_read = name in {"ended.json", "test.npz"}
    for path in (folder / name, folder / ("x" if is_read else "ended.json")):  # the others while it is trained
        path.unlink(missing_ok=True)
    DAMAGE[kind](folder / name)
    for _ in range(2):
        assert compare(script, log=lines.append).answer == answer and len(script.trained) == 6 + 1
    assert any(line.endswith("; once more") for line in lines) == is_read


def test_several_trainings_at_a_time_give_the_same_answer(compare: Compare, tmp_path: Path) -> None:
    sequential = compare(make_script(), "dice,jaccard").answer
    (tmp_path / "own").rename(tmp_path / "before")
    assert compare(make_script(), "dice,jaccard", workers=4).answer == sequential


def test_no_training_begins_after_a_stop(compare: Compare) -> None:
    script = make_script(noise=0.003)
    with pytest.raises(InterruptedSweepError):
        compare(script, is_stopped=lambda: len(script.trained) >= 2)
    assert len(script.trained) == 2
    compare(script)
    assert len(script.trained) == 2 + 5  # the one in work at the stop is trained again


def test_scores_are_kept_when_the_margin_is_missing(compare: Compare) -> None:
    script = make_script(
        kind="number", make_scores=lambda s, t, split, images: np.array([100 * s.quality(t)]), noise=0.004
    )
    with pytest.raises(UsageError, match=r"scores must lie within 0 to 1, got 5\d.* --out 'my reports' --margin 1`"):
        compare(script)
    assert len(script.trained) == 1
    assert compare(script, margin=1.0).answer.outcome == "change" and len(script.trained) == 6


def test_a_resume_keeps_the_margin_unless_another_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path, make_plan(Script(), "dice", margin=0.2))
    assert resume_plan(tmp_path, None, ConfirmOptions()).margin == 0.2
    assert resume_plan(tmp_path, None, ConfirmOptions(margin=0.1, seeds="3..8")).margin == 0.1


def test_a_missing_margin_is_refused_after_the_first_short_training(compare: Compare) -> None:
    script = make_script(kind="number", make_scores=lambda s, t, split, images: np.array([100 * s.quality(t)]))
    with pytest.raises(UsageError, match="--margin 1"):
        compare(script, rates=(0.5, 1.0))
    assert [trial["kind"] for trial in script.trained] == ["search"]


def test_a_moved_comparison_is_judged_without_a_training(
    compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = make_script(noise=0.003)
    before = compare(script).answer
    (tmp_path / "own").rename(tmp_path / "elsewhere")
    plan = make_plan(script, "dice")
    moved = ScriptTrainings(ScriptStarter("train"), tmp_path / "elsewhere", plan.task)
    after = confirm_losses(plan, moved, resume_command=RESUME_COMMAND).answer
    assert after == before and len(script.trained) == 6


def test_a_comparison_is_in_the_list_of_studies(compare: Compare, sweeper: Sweeper) -> None:
    made, folder = compare(make_script(noise=0.003), rates=(0.5, 1.0), name="mine"), COMPARISONS / "mine"
    folder.parent.mkdir(parents=True)
    Path("own").rename(folder)
    write_plan(folder, made.plan)
    [row] = list_comparison_rows()
    assert (row.state, row.trials, row.asked, row.confirmations, row.outcome) == ("unknown", 4, 4, 6, None)
    write_comparison_answer(folder, made.answer)
    assert list_comparison_rows()[0].state == "finished", "by a version that wrote no status"
    with Heartbeat(folder / COMPARISON_STATUS, "mine", command="confirm") as heartbeat:
        heartbeat.record_progress("confirm", 2, 6)
        heartbeat.record_answer("after 3 seeds: keep")
        assert list_comparison_rows()[0].state == "running"
        assert sweeper("studies", "show", "--storage", "sqlite:///typo.db")[0] == 2
        status, out, _ = sweeper("studies", "show")
        assert status == 0 and "mine: running, confirm 2/6" in out and "answer: after 3 seeds: keep" in out
    assert list_comparison_rows()[0].state == "finished"
    assert "change, established  dice" in (out := sweeper("studies")[1]) and "1 comparison in .sweeper/conf" in out
    assert not problems(json.loads(sweeper("studies", "--json")[1]))
    status, _, error = sweeper("report", "mine")
    assert status == 2 and "`sweeper confirm --study mine --resume`" in error
    write_plan(folder, made.plan)  # another session
    assert list_comparison_rows()[0].outcome is None


def test_gpus_are_shared_out(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert share_gpus(2) == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in share_gpus(3)] == ["4", "5", "6"]
    assert share_gpus(5) == [{}] * 5  # each sees all
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert share_gpus(2) == [{}, {}]
    script = make_script()
    compare(script)
    assert all(int(environment["MASTER_PORT"]) > 1023 for environment in script.environments)


def test_the_files_agree_with_the_answer(compare: Compare, tmp_path: Path) -> None:
    confirmation = compare(make_script(noise=0.004, ignore_index=-7), rates=(0.5, 1.0))
    out = tmp_path / "report"
    write_confirmation(confirmation, out)
    path = write_judgement(confirmation.judgement, confirmation.answer, out, title="Losses in `train`")
    text = path.read_text("utf-8")
    assert text.startswith("# Losses in `train`\n\n**Change to `dice`: ") and "× your learning rate" in text
    assert not confirmation.answer.find("TUNING")
    loss_text = (out / "loss.py").read_text("utf-8")
    assert callable(run_text(loss_text)["criterion"]) and "-7 = ignored" in loss_text
    with (out / "trainings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["own_runs"] for row in rows] == ["wandb: team/cracks/1a"] * len(confirmation.trainings)
    assert json.loads((out / "recommendation.json").read_text("utf-8"))["use"]["loss"] == "dice"


# --- The command ---


WORDS = ("confirm", "--losses", "dice", "--command", "python train.py")
CHEAP = ("--rates", "none", "--seeds", "3")
Sweeper = Callable[..., tuple[int, str, str]]


@pytest.fixture
def start_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    """Let the command probe and start a `Script` in place of train.py."""
    (tmp_path / "train.py").write_text("x = 1\n")
    mlflow_template.write_store(tmp_path)
    monkeypatch.setattr(starter, "end_processes", lambda folder: None)

    def use(script: Script) -> None:
        probe = make_plan(script, "dice").probe.model_copy(update={"command": "python train.py"})
        monkeypatch.setattr("sweeper.workflow.comparison.probe_script", lambda *_, **__: probe)
        monkeypatch.setattr(starter, "run_script", script.run)

    return use


def test_a_secret_in_the_command_is_in_no_output(
    sweeper: Sweeper, start_instead: Callable[[Script], None], tmp_path: Path
) -> None:
    start_instead(make_script())
    command = "python train.py --password canary-1 --api-key=canary-2 --db postgresql://me:canary-3@host/db"
    status, out, error = sweeper("confirm", "--losses", "dice", "--command", command, *CHEAP, "--json")
    assert status == 0 and "--password '***'" in json.loads(out)["command"]
    folder = tmp_path / ".sweeper"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    assert {"report.md", "report.html", "recommendation.json", "mlflow.db"} <= {path.name for path in files}
    for text in (out, error, *(path.read_bytes().decode("latin-1") for path in files)):
        assert "canary" not in text
    assert "canary-1" in next(folder.rglob("plan.json")).read_text()  # which a resume starts
    probe = make_plan(make_script(), "dice").probe.model_dump()
    assert "canary" not in ProbeDocument.model_validate({**probe, "command": command}).text


def test_a_comparison_is_resumed_only_by_its_plan(
    sweeper: Sweeper, start_instead: Callable[[Script], None], tmp_path: Path
) -> None:
    start_instead(make_script(end=lambda *_: ScriptEnd(-15, 1.0, True, 0, ())))
    status, out, error = sweeper(*WORDS, "--dry-run")
    assert status == 0 and "Losses can be compared in this script" in out and "Cost: 8 to 12 whole trainings" in error
    status, out, error = sweeper(*WORDS, *CHEAP, "--time-limit", "1")
    assert status == 2 and "it must end within 1 s" in error and "\n    --resume continues if the script" in error
    status, _, error = sweeper(*WORDS, *CHEAP)
    refusal = "a comparison 'train-losses' was begun; `sweeper confirm --study train-losses --resume`"
    assert status == 2 and refusal in error
    resume = ("confirm", "--study", "train-losses", "--resume")
    status, _, error = sweeper(*resume, "--folds", "3", "--seeds", "3")
    assert status == 2 and "folds was None, and is now 3" in error
    (tmp_path / "train.py").write_text("x = 2\n")
    status, _, error = sweeper(*resume)
    assert status == 2 and "train.py changed, so that trainings would no longer be of one script" in error


def test_the_time_limit_is_also_that_of_the_probe(sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def probe(*_: object, seconds: float, **__: object) -> None:
        limits.append(seconds)
        raise ScriptError("train.py", ["it is late"])

    monkeypatch.setattr("sweeper.workflow.comparison.probe_script", probe)
    assert [sweeper(*WORDS, *words)[0] for words in ((), ("--time-limit", "5000"))] == [2, 2]
    assert limits == [600.0, 5000.0]


def test_an_error_after_the_trainings_gives_the_run_of_the_comparison_its_status(
    sweeper: Sweeper, start_instead: Callable[[Script], None], tmp_path: Path
) -> None:
    start_instead(make_script(noise=0.001))
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "train-losses").write_text("where the report's folder should be")
    assert sweeper(*WORDS, *CHEAP)[0] != 0
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    (parent,) = client.search_runs(experiments, "tags.`sweeper.kind` = 'sweep'")
    assert parent.info.status == "FAILED"


def test_a_metric_for_scores_of_the_script_is_refused_and_a_changed_source_is_reported(
    sweeper: Sweeper, start_instead: Callable[[Script], None], tmp_path: Path
) -> None:
    class Edited(Script):
        kind = "score"

        def end(self, trial: dict[str, Any]) -> ScriptEnd:
            (tmp_path / "train.py").write_text("x = 2\n")
            return super().end(trial)

    start_instead(Edited())
    status, _, error = sweeper(*WORDS, *CHEAP, "--metric", "dice")
    assert status == 2 and "--metric is for logits and counts, and the script gives a score" in error
    status, out, error = sweeper(*WORDS, *CHEAP)
    assert status == 0, error
    assert "Later trainings may be of another script: train.py changed meanwhile." in " ".join(out.split())
