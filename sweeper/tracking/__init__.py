"""MLflow: a view of the study for users; no conclusion is read back from it.

the study, then each result → tracker.py → values.py (what is to be there: runs, names and numbers)
                                               ↓ compared with what is there by mirror.py
                                            MLflow, in the tracker's thread
"""

from __future__ import annotations

import os

# Set before MLflow is imported: a tool for private images does not report its use to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A server that does not answer is noticed in seconds; MLflow's own defaults hold a call for minutes. Nor may MLflow
# repeat a request by itself: a run whose creation was answered too late would be there twice. The next pass looks
# it up first.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "6")
# At the end of each run MLflow prints the server's address, password and all, on standard output, which is for results
# alone. Whatever the environment says of it.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

from sweeper.tracking.mlflow_connection import (
    connect_to_mlflow,
    explain_missing_store,
    get_server_version,
    list_prepared_studies,
)
from sweeper.tracking.tracker import MlflowTracker, SweepSummary
from sweeper.tracking.values import NOTE, NOTE_LIMIT, make_class_slugs
