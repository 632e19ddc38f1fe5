"""Parsing of losses, their parameters, the forecast cost of a comparison, and what no sequence of resumes changes."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sweeper.core.errors import InterruptedSweepError, UsageError
from sweeper.evidence.document import AnswerDocument
from sweeper.scripts import starter
from sweeper.scripts.comparison_plan import (
    fill_losses,
    forecast_confirmation,
    open_plan,
    parse_losses,
    record_analysis,
    write_plan,
)
from sweeper.scripts.confirm import confirm_losses
from sweeper.scripts.starter import ScriptStarter
from sweeper.scripts.trainings import ScriptTrainings
from sweeper.workflow.comparison import resume_plan
from sweeper.workflow.settings import ConfirmOptions
from tests.scripts.test_confirm import Script, make_plan, make_script
from tests.support.shown import Shown


def test_losses_are_parsed() -> None:
    losses = parse_losses("dice_ce:mix=0.2;pos_weight=3, tversky:fn_weight=0.7,cross_entropy")
    assert [(loss.name, loss.family) for loss in losses] == [
        ("dice_ce:mix=0.2;pos_weight=3", "dice_ce"), ("tversky:fn_weight=0.7", "tversky"),
        ("cross_entropy", "cross_entropy"),
    ]  # fmt: skip
    assert losses[0].params == {"mix": 0.2, "pos_weight": 3.0}
    assert [loss.name for loss in parse_losses("dice")] == ["cross_entropy", "dice"]
    assert [loss.name for loss in parse_losses("dice", "dice_ce:mix=0.5")] == ["dice_ce:mix=0.5", "dice"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got none"), ("cross_entropy", "got none"), ("dice,dice", "dice is there twice"),
        ("ce", "'ce' is no family, did you mean `cross_entropy`?"),
        ("dicee", "'dicee' is no family, did you mean `dice`?"), ("boundary", "logits and labels only, got boundary"),
        ("tversky:fn_weight", "must be FAMILY:NAME=NUMBER, got 'fn_weight'"),
        ("dice_ce:mix=2", "`mix` must be"), ("focal:gama=2", "`gama` is not a hyper-parameter"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be_compared_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_losses(text)


def test_missing_parameters_get_published_values_and_unknown_ones_are_refused() -> None:
    plan = make_plan(make_script(), "weighted_ce,tversky:fn_weight=0.6")
    filled = {loss.family: loss.params for loss in plan.losses}
    assert filled["tversky"] == {"fn_weight": 0.6} and filled["weighted_ce"]["pos_weight"] > 1
    with pytest.raises(UsageError, match="`pos_weight` is not a hyper-parameter"):
        make_plan(make_script(classes=4), "dice_ce:pos_weight=3")  # right for two classes
    with pytest.raises(UsageError, match="boundary_ce looks at neighbouring pixels of images, and the script has vol"):
        fill_losses(parse_losses("dice,boundary_ce"), plan.task.model_copy(update={"volumes": True}))


def test_the_forecast_has_cost_and_precision() -> None:
    plan = make_plan(make_script(), "dice,tversky", rates=(1 / 3, 1.0, 3.0))
    losses, cost, width = forecast_confirmation(plan, 2)
    assert "3 losses: cross_entropy, dice and tversky; each loss tries 0.333, 1 and 3 times your rate on 0.25" in losses
    assert cost == "Cost: 12 to 18 whole trainings, 5.6 to 8.6 min at 2 trainings a time"
    assert "Cost: 0 to 5 whole" in forecast_confirmation(plan, 2, {"tune": 9, "confirm": 10})[1]
    assert width.startswith("A difference will be known to ± 0.053 after 3 seeds and ± 0.0") and "paired" in width
    *_, width = forecast_confirmation(make_plan(make_script(kind="number", pairing="none"), "dice"), 1)
    assert "± 2.9 after 3 seeds" in width and "in standard deviations of the scores" in width and "unpaired" in width


class Comparison(Shown):
    """A comparison whose sessions get options; what they show is checked against what was shown before."""

    def __init__(self, folder: Path, script: Script) -> None:
        super().__init__()
        self.folder, self.script = folder, script
        write_plan(folder, make_plan(script, "dice,tversky", margin=0.01))

    def resume(self, options: ConfirmOptions, last: float) -> None:
        plan, most = resume_plan(self.folder, None, options), max(self.errors, default=0)
        write_plan(self.folder, plan)

        def publish(seeds: int, answer: AnswerDocument) -> None:
            record_analysis(self.folder, plan, seeds)
            assert seeds >= most  # no seeds that were analysed are left out
            self.check_answer(answer, plan.margin, seeds)

        ended = len(self.script.trained) + last
        start = ScriptStarter("train", is_stopped=lambda: len(self.script.trained) >= ended)
        with suppress(InterruptedSweepError):
            confirm_losses(plan, ScriptTrainings(start, self.folder, plan.task), resume_command="", publish=publish)
        self.check_errors(open_plan(self.folder).made)


SESSIONS = st.tuples(
    st.sampled_from([None, (3, 3), (3, 4), (3, 5), (4, 5), (5, 5), (3, 8), (8, 8)]),
    st.sampled_from([None, 0.001, 0.01, 0.05]),
    st.sampled_from([inf, inf, 2, 5]),
)


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.05]), st.sampled_from(["score", "number"]),
    st.sampled_from(["exact", "none"]), st.lists(SESSIONS, min_size=2, max_size=5),
)  # fmt: skip
def test_no_sequence_of_resumes_spends_more_than_the_error_or_takes_an_answer_back(
    seed: int, gap: float, kind: str, pairing: str, sessions: list[tuple[tuple[int, int] | None, float | None, float]]
) -> None:
    def quality(self: Script, trial: dict[str, int]) -> float:
        rng = np.random.default_rng([seed, trial["seed"], *trial["family"].encode()])
        return 0.6 + self.gaps.get(trial["family"], 0.0) + 0.015 * rng.standard_normal()

    script = make_script(kind=kind, pairing=pairing, gaps={"dice": gap}, quality=quality)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(starter, "run_script", script.run)
        patch.setattr(starter, "end_processes", lambda _: None)
        comparison = Comparison(Path(folder) / "own", script)
        for seeds, margin, last in sessions:
            with suppress(UsageError):  # seeds can only become more
                comparison.resume(ConfirmOptions(seeds=seeds and f"{seeds[0]}..{seeds[1]}", margin=margin), last)
