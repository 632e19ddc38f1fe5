"""The study's note in optuna-dashboard, which is no dependency: what it reads, written as it writes it.

optuna-dashboard 0.21 keeps a study's note (markdown) in the study's system attributes: its version under
`dashboard:note_ver`, its text in parts of at most 2,045 characters under `dashboard:note_str:0`, `:1` and so on.
"""

from __future__ import annotations

import optuna

from sweeper.storage.optuna_internals import storage_of, study_id

VERSION, PART = "dashboard:note_ver", "dashboard:note_str:"
PART_LENGTH = 2045
MARK = "[//]: # (The head of sweeper's report: it is written anew with each report.)\n\n"
"""A note that begins otherwise was written by somebody else. An address that nothing links to is shown nowhere; the
dashboard shows a comment as text."""


def note_report(study: optuna.Study, text: str) -> None:
    """Make `text` (markdown) the study's note, in place of an earlier one of ours; the same text writes nothing.

    A note that people wrote stays.
    """
    storage, own = storage_of(study), study_id(study)
    have = storage.get_study_system_attrs(own)
    begin = str(have.get(f"{PART}0", ""))
    if begin.strip() and not begin.startswith(MARK):
        return
    text = MARK + text
    parts = {f"{PART}{n}": text[at : at + PART_LENGTH] for n, at in enumerate(range(0, len(text), PART_LENGTH))}
    parts |= {key: "" for key in have if key.startswith(PART) and key not in parts}  # of a longer note
    changed = {key: part for key, part in parts.items() if have.get(key) != part}
    for key, part in changed.items():
        storage.set_study_system_attr(own, key, part)
    if changed:  # a dashboard that is open takes its own changes for older than these
        storage.set_study_system_attr(own, VERSION, int(have.get(VERSION, 0)) + 1)
