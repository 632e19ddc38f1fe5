"""Scores or counts of each run, image and class, and the problems of missing, repeated and inconsistent ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from sweeper.core.text import abbreviate, abbreviate_names, format_count, join_words, suggest_or_list
from sweeper.data.groups import find_groups
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import CELL, Rows

MOST_METHODS = 300
"""All pairs are compared, which takes half a minute."""


class RunCells:
    """The rows by run, image and class; missing, repeated and inconsistent ones are added to the rows' problems."""

    def __init__(self, rows: Rows, request: ScoreRequest) -> None:
        self.rows, self.left_out = rows, 0
        self.keys = [key for key in CELL if key in rows.frame]
        frame = rows.frame.assign(**{key: "1" for key in CELL if key not in rows.frame})
        self.methods = frame["method"].unique().tolist()
        self._check_request(request)
        self.folds = rows.scores.folds
        """Number of folds of a training; 1 = it has none."""
        if "group" in frame:
            frame = self._join_groups_to_images(frame)
        elif not rows.is_trusted:
            frame = self._find_groups_in_names(frame)
        self.is_by_fold = "fold" in frame and "image" not in self.keys
        """Whether each run is a fold of a training."""
        if "fold" in frame:
            self._check_folds(frame)
        frame = _name_folds(frame) if self.is_by_fold else frame
        rows.refuse(
            frame.duplicated(CELL, keep=False),
            f"one row must be for one {join_words(self.keys)}, got several; leave all but one out, or name or add "
            "the column that tells them apart: --column seed=NAME if each is a training, image=NAME if each is an "
            "image (group=NAME if its name is that of several), or class=NAME",
        )
        frame = self._find_missing(frame, leave_out=request.common)
        if rows.of_counts:
            self._check_labels(frame)
        may_be_folds = "fold" in frame and not (self.is_by_fold or rows.is_trusted)
        if may_be_folds and _has_few_rotations(frame):
            self.is_by_fold, frame = True, _name_folds(frame)
        if self.is_by_fold or request.paired_seeds:
            self._check_common_seeds(frame)
        self.frame = frame
        self.runs = frame[["method", "seed"]].drop_duplicates()
        """Method and seed of each run."""
        self.unit = frame["image"]
        """Image of each row, or its group, which counts as one image."""
        self.groups: int | None = None
        has_groups = "group" in frame and (frame["group"] != "").any()
        if has_groups and not self.is_by_fold:
            self.unit = ("group " + frame["group"]).where(frame["group"] != "", "image " + frame["image"])
            self.groups = self.unit.nunique()
        are_one = self.is_by_fold or self.unit.nunique() < 2
        self.images = 0 if are_one else frame["image"].nunique()
        """Number of images; 0 = nothing says how others would rank the methods."""
        self._note_folds()

    def _check_request(self, request: ScoreRequest) -> None:
        """Check the methods to compare, the present one, and the level."""
        if not 2 <= len(self.methods) <= MOST_METHODS:
            self.rows.problems.append(
                f"2 to {MOST_METHODS} methods can be judged, as each is compared with each, got "
                f"{abbreviate_names(self.methods)}; add another, such as from `sweeper confirm` in a script of yours, "
                "or leave out those that cannot be the best"
            )
        if request.present not in (None, *self.methods):
            near = suggest_or_list(str(request.present), self.methods)
            self.rows.problems.append(f"--present must be one of the methods, got {request.present!r}{near}")

    def _check_common_seeds(self, frame: pd.DataFrame) -> None:
        """Check that methods whose runs are compared pair by pair have seeds in common."""
        seeds = {method: set(frame.loc[frame["method"] == method, "seed"]) for method in self.methods}
        apart = [f"{one} and {other}" for one, other in combinations(seeds, 2) if not seeds[one] & seeds[other]]
        if apart or not {"seed", "fold"} & {*self.rows.frame}:
            self.rows.problems.append(
                "--paired-seeds compares runs of one seed, got no seed in common of "
                f"{abbreviate_names(apart) or 'any two methods'}; name shared seeds alike, or leave the option out"
            )

    def _find_missing(self, frame: pd.DataFrame, *, leave_out: bool) -> pd.DataFrame:
        """Find the images and classes that only some runs have; return the rows without such images on request."""
        cells = frame.drop_duplicates(CELL)
        runs_of = cells.groupby(["image", "class"], sort=False).size()
        sizes = cells.groupby(["method", "seed"], sort=False).size()
        images = runs_of.index[runs_of < len(sizes)].unique("image")
        has_others = len(images) < frame["image"].nunique()
        if leave_out and has_others:
            self.left_out = len(images)
            return frame[~frame["image"].isin(images)]
        if len(images):
            method, seed = sizes.index[sizes < len(runs_of)][0]
            own = cells[(cells["method"] == method) & (cells["seed"] == seed)]
            lacking = runs_of.index[~runs_of.index.isin(pd.MultiIndex.from_frame(own[["image", "class"]]))]
            step = "score what is missing, or leave such images out with --common"
            self.rows.problems.append(
                f"{format_count(len(runs_of) * len(sizes) - len(cells), 'score is', 'scores are')} missing that other "
                f"runs have, first of {method}, seed {seed} ({self._format_cells(lacking)}); "
                f"{step if has_others else 'no image has the scores of all runs: are all named alike in each of them?'}"
            )
        return frame

    def _format_cells(self, cells: pd.Index) -> str:
        texts = [f"{image!r}, class {kind}" if "class" in self.keys else repr(image) for image, kind in cells]
        return abbreviate_names(texts)

    def _join_groups_to_images(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rename images to group/image if runs have several images of one name in different groups."""
        again = frame.duplicated(CELL)
        if not again.any() or frame.duplicated([*CELL, "group"]).any():
            has_others = frame.groupby("image")["group"].transform("nunique") > 1
            self.rows.refuse(has_others, "an image must be in one group, got several; give each one")
            return frame
        name = frame.loc[again, "image"].iloc[0]
        groups = frame.loc[frame["image"] == name, "group"].unique()[:2].tolist()
        self.rows.notes.append(
            f"Several groups have an image of one name, such as {name!r} in {join_words(groups)}: they are taken to be "
            "different images, each named by its group and its name."
        )
        return frame.assign(image=frame["group"] + "/" + frame["image"])

    def _find_groups_in_names(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Give images the groups that their names tell, by the rule for the images of a data set; note them.

        Names that begin with the fold, FOLD/IMAGE, tell no groups.
        """
        found = find_groups({name: PurePosixPath(name.replace("\\", "/")) for name in frame["image"].unique()})
        names = sorted({*found.by_stem.values()})
        if found.possible:
            self.rows.notes.append(
                f"Images may belong together by their names ({abbreviate(found.possible, 3)}), and count one by one: a "
                "column `group` joins those of each"
            )
        if not names or {*names} == {*frame.get("fold", ())}:
            return frame
        self.rows.notes.append(
            f"By their names the images are of {len(names)} groups ({abbreviate(names, 3)}), which count as one unit "
            "each, as images of one patient are not independent: a column `group` says otherwise"
        )
        return frame.assign(group=frame["image"].map(found.by_stem).fillna(""))

    def _check_folds(self, frame: pd.DataFrame) -> None:
        """Count the folds; find one that is not tested, or an image that is tested in several."""
        folds = frame.groupby(["method", "seed"], sort=False)["fold"].nunique()
        self.folds = int(folds.min())  # their names may differ from run to run
        if not self.is_by_fold:
            image, fold = (f"table[{self.rows.titles[key]!r}]" for key in ("image", "fold"))
            self.rows.refuse(
                frame.groupby(CELL)["fold"].transform("nunique") > 1,
                "an image must be in one fold of a training, got several; as trainings of folds share training images, "
                "give each image's mean over them. If images of several folds only have one name, in pandas: "
                f"`{image} = {fold}.astype(str) + '/' + {image}.astype(str)`",
            )
        elif self.folds < folds.max():
            lacking = [f"{method}, seed {seed}" for method, seed in folds.index[folds < folds.max()]]
            self.rows.problems.append(
                f"each training must have all {folds.max()} folds, got fewer of {abbreviate_names(lacking)}"
            )

    def _check_labels(self, frame: pd.DataFrame) -> None:
        """Check that labels are the same for all runs."""
        labels = (frame["tp"] + frame["fn"]).groupby([frame["image"], frame["class"]], sort=False)
        wrong = labels.max() - labels.min() > 1e-6 * np.maximum(1, labels.max())
        if wrong.any():
            self.rows.problems.append(
                "tp + fn, the pixels of the labels, must be the same for all runs, got others for "
                f"{self._format_cells(wrong.index[wrong])}: were they scored on the same labels, at one resolution?"
            )

    def _note_folds(self) -> None:
        """Add the caveats of folds, and of a single image."""
        if self.is_by_fold:
            self.rows.notes.append(
                f"Folds of one name are taken to be the same images for all methods. The trainings of {self.folds} "
                "folds share training images: intervals are widened for that (Nadeau and Bengio 2003), by an "
                "approximation."
            )
        elif self.folds > 1:
            self.rows.notes.append(
                "The folds together are one training over all images. That other divisions into folds may rank the "
                "methods differently is in an interval only where each seed has its own. What other training images "
                "would change is there by an approximation: of K folds the images' part is multiplied by K/(K − 1), "
                f"here K = {self.folds}."
            )
        has_one_unit = "image" in self.keys and self.unit.nunique() < 2
        if has_one_unit and not self.is_by_fold:
            note = "All scores are of one image or group: nothing shows how others would rank the methods."
            self.rows.notes.append(note)


def _name_folds(frame: pd.DataFrame) -> pd.DataFrame:
    """Make each fold of a training a run, whose images are not distinguished."""
    return frame.assign(seed=frame["seed"] + ", fold " + frame["fold"], image="1")


def _has_few_rotations(frame: pd.DataFrame) -> bool:
    """Return whether only scores by fold say anything about methods: too few trainings over all images, equal folds.

    Two trainings over all images, or fewer, have no spread; three folds or more have.
    """
    rotations = frame.groupby("method")["seed"].nunique()
    if rotations.min() >= DECIDING_SEEDS or rotations.min() * frame["fold"].nunique() < DECIDING_SEEDS:
        return False
    by_image = frame.groupby(["seed", "image"])
    return bool((by_image["fold"].nunique() == 1).all() and (by_image["method"].nunique() == len(rotations)).all())
