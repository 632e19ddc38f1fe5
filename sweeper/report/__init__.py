"""The report: text, tables and figures of a study, and the same as JSON and CSV.

`write_report` and `report_summary` are imported when they are first used, so that `sweeper.report.tables` can be had
without matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.report.write import report_summary, write_report

__all__ = ["report_summary", "write_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sweeper.report import write

        return getattr(write, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
