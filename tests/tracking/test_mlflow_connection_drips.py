"""Servers that send a byte now and then: every wait has a limit, however often bytes arrive."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.tracking import MlflowClient

from sweeper.cli.doctor import describe_store
from sweeper.core.errors import UsageError
from sweeper.tracking import list_prepared_studies, mlflow_connection
from sweeper.tracking.prepared_views import TAG
from tests.support.proxy import Proxy

EXPERIMENT = {"experiment_id": "1", "name": "study", "tags": [{"key": f"{TAG}sweep", "value": "x" * 300}]}
HEADERS = 150
"""Bytes of an answer before its body, more or less."""


class Handler(BaseHTTPRequestHandler):
    """Serves one experiment, and nothing else of MLflow."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece

    def do_GET(self) -> None:
        self._answer({"experiment": EXPERIMENT} if "get-by-name" in self.path else {"version": "3" * 300})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"experiments": [EXPERIMENT]})

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Yield a proxy of such a server; if it drips, an answer takes half a minute."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        proxy = Proxy(("127.0.0.1", server.server_port))
        yield proxy
        proxy.close()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("at_once", [0, HEADERS])
@pytest.mark.slow
def test_a_request_to_mlflow_times_out_while_single_bytes_arrive(proxy: Proxy, at_once: int) -> None:
    uri = f"http://127.0.0.1:{proxy.port}"
    assert list(list_prepared_studies(uri)) == ["study"]
    proxy.drips, proxy.drips_from = 0.1, at_once
    with pytest.raises(UsageError, match=r"must be an MLflow store that answers, got: .*timed out"):
        list_prepared_studies(uri)
    with pytest.raises(Exception, match="timed out"):
        MlflowClient(uri).get_experiment_by_name("study")


@pytest.mark.slow
def test_an_answer_at_the_speed_of_a_slow_line_is_read_to_its_end(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_connection, "SLOWEST_LINE", 1)
    proxy.drips = 0.004
    uri = f"http://127.0.0.1:{proxy.port}"
    assert list(list_prepared_studies(uri)) == ["study"]


def test_the_doctor_reports_a_server_that_drips(proxy: Proxy) -> None:
    proxy.drips = 0.1
    with pytest.raises(Exception, match="timed out"):
        describe_store("--tracking-uri", f"http://127.0.0.1:{proxy.port}")


class Endless(BaseHTTPRequestHandler):
    """Answers without end, in the manner that is the first part of the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        manner = self.path.split("/")[1]
        self.send_response(200)
        for name, value in {
            "chunked": {"Transfer-Encoding": "chunked"},
            "long": {"Content-Length": str(10**15)},
            "closed": {"Connection": "close"},
            "packed": {"Content-Encoding": "gzip", "Connection": "close"},
        }[manner].items():
            self.send_header(name, value)
        self.end_headers()
        packer = zlib.compressobj(wbits=31)
        piece = b"x" * 65536
        with suppress(OSError):
            for _ in range(4096):
                part = packer.compress(piece) if manner == "packed" else piece
                self.wfile.write(b"10000\r\n" + part + b"\r\n" if manner == "chunked" else part)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("manner", ["chunked", "long", "closed", "packed"])
def test_an_answer_without_end_is_refused(manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_connection, "LONGEST", 2_000_000)
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        uri = f"http://127.0.0.1:{server.server_port}/{manner}"
        with pytest.raises(UsageError, match=r"answer must be at most 2,000,000 bytes long, got more"):
            list_prepared_studies(uri)
        with pytest.raises(Exception, match="at most 2,000,000 bytes"):
            describe_store("--tracking-uri", uri)
        server.shutdown()
