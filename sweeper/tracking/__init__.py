"""MLflow: copies for people; no conclusion is read back from it.

what happened → values.py (names, numbers) → tracker.py (operations) → courier.py → MLflow
                                                                          └→ spool.py, while MLflow is away
"""

from __future__ import annotations

import os

# Set before MLflow is imported: a tool for private images does not report its use to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A server that does not answer is noticed in seconds; MLflow's own defaults hold a call for minutes. Nor may MLflow
# repeat a request by itself: a run whose creation was answered too late would be there twice. The spool repeats.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "6")
# At the end of each run MLflow prints the server's address, password and all, on standard output, which is for results
# alone. Whatever the environment says of it.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

from sweeper.tracking.mlflow_connection import no_store, prepared_studies, send_spooled, server_version
from sweeper.tracking.rebuild import Rebuild, Rebuilt, Training
from sweeper.tracking.tracker import Tracker
from sweeper.tracking.values import NOTE, NOTE_LIMIT, class_slugs

__all__ = [
    "NOTE",
    "NOTE_LIMIT",
    "Rebuild",
    "Rebuilt",
    "Tracker",
    "Training",
    "class_slugs",
    "no_store",
    "prepared_studies",
    "send_spooled",
    "server_version",
]
