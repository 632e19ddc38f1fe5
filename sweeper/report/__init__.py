"""The report: text, tables and figures of a study, and the same as JSON and CSV.

The names below are imported when they are first used, so that `sweeper.report.tables` can be had without matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.report.compare import write_comparison
    from sweeper.report.write import write_report

__all__ = ["write_comparison", "write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_comparison":
        from sweeper.report.compare import write_comparison

        return write_comparison
    if name in __all__:
        from sweeper.report import write

        return getattr(write, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
