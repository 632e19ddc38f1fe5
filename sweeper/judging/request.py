"""What is asked of a table of scores: the options of `sweeper judge`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from sweeper.core.base import Record
from sweeper.core.options import make_setting
from sweeper.core.paths import TRACKING

KEYS = ("method", "image", "seed", "group", "class", "fold", "step")
"""Columns that say what a score is of; only `method` is required."""


def _split_pairs(given: object) -> object:
    """Return a mapping as it is, and of texts KEY=VALUE theirs."""
    if not isinstance(given, Sequence):
        return given
    for text in given:
        key, _, value = str(text).partition("=")
        if not (key and value):
            raise ValueError(f"must be two words joined by =, got {text!r}")
    return dict(str(text).split("=", 1) for text in given)


PAIRS = BeforeValidator(_split_pairs, json_schema_input_type=Sequence[str])


class ScoreRequest(Record):
    """Settings of a judgement, in addition to the table's rows."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    metric: str | None = make_setting("", default="score")
    """Column of the scores, metric of MLflow's runs, or miou or dice, computed from tp, fp and fn."""
    present: str | None = make_setting("")
    """Method that you use now, to compare the others with and to keep if good enough."""
    margin: float | None = make_setting("", default="0.01 within 0 to 1", metavar="X")
    """Difference that does not matter, in the score's unit."""
    lower_is_better: bool | None = make_setting("", opposite="--higher-is-better")
    """Direction of the score; required unless its name says that higher is better (IoU, Dice, F1)."""
    paired_seeds: bool = make_setting("", False)
    """A seed means the same initial weights and batches for all methods."""
    common: bool = make_setting("", False)
    """Leave out the images that some run did not score."""
    column: Annotated[Mapping[Annotated[str, Field(pattern=f"^({'|'.join(KEYS)})$")], str], PAIRS] = make_setting(
        "", {}, metavar="KEY=NAME"
    )
    """Other name of the column of method, seed, image, group, class, fold or step: method=model."""
    ignore: Sequence[str] = make_setting("", (), metavar="NAME")
    """Column that is of no influence on the scores."""
    tracking_uri: str = make_setting("", TRACKING, variables=("SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI"))
    """MLflow store of mlflow:EXPERIMENT."""
    where: Annotated[Mapping[str, str], PAIRS] = make_setting("", {}, metavar="KEY=VALUE")
    """Only MLflow's runs with this parameter, tag or status."""
    at: str | None = make_setting("", default="the last, if all end at one step", metavar="last|STEP|best:VAL")
    """Step of each training to compare: the last, a step (5000, epoch=50), or the one where a validation metric is
    highest (best:NAME) or lowest (lowest:NAME)."""
    level: float = make_setting("", 0.95, metavar="X", ge=0.5, lt=1)
    """Level of the intervals."""
    claim: str | None = make_setting("", metavar="'B > A by 0.005'")
    """Check a claim: exit with 0 if it holds, 4 if it is not shown, 5 if it is contradicted."""
