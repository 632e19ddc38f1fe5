"""Exit statuses of `--exit-code-by-verdict`."""

from __future__ import annotations

from sweeper.core.records import Verdict

VERDICT_CODES = {
    Verdict.CLEAR_WINNER: 0,
    Verdict.EQUIVALENT: 10,
    Verdict.SAFE_CHOICE: 11,
    Verdict.UNDECIDED: 12,
    Verdict.NONE: 13,
}
"""None of the others (docs/reference/commands.md) is among them."""
