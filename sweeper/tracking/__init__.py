"""MLflow: a view of the study for users; sweeper draws no conclusion from it.

the study, then each result → tracker.py → values.py (the desired runs, names and numbers)
                                               ↓ compared with the existing ones by mirror.py
                                            MLflow, in the tracker's thread
"""

from __future__ import annotations

import os

# Set before MLflow is imported: a tool for private images must not report its use to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Notice an unreachable server in seconds; MLflow's defaults block a call for minutes. MLflow must not repeat requests:
# a run whose creation was answered too late would exist twice. sweeper's next pass looks up the run first.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "6")
# At the end of each run MLflow prints the server's address, with password, on standard output, which is only for
# results. This overrides the environment.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

from sweeper.tracking.mlflow_connection import (
    connect_to_mlflow,
    explain_store_errors,
    list_prepared_studies,
    register_network,
)
from sweeper.tracking.tracker import MlflowTracker, MlflowWriter, SweepSummary
from sweeper.tracking.values import NOTE, NOTE_LIMIT
