"""One call to etcd, in the JSON that it speaks beside gRPC: who we are, what went wrong, and answers that go on.

The API is described at https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from hamlet_etcd.options import EtcdOptions

OUT_OF_RANGE, UNAUTHENTICATED = 11, 16
"""Codes of gRPC: a revision that is forgotten, a token that has expired."""


class Unreachable(Exception):  # noqa: N818 - it says what is the case
    """Etcd cannot be reached, does not answer, or does not let us in: try again later."""


class Refused(Exception):  # noqa: N818
    """Etcd will never take what it was given."""


class Compacted(Exception):  # noqa: N818
    """Etcd has forgotten the revision that was asked for."""


class Cut:
    """Ends the answer that is being read, from another thread: what `Stop.on_stop` is given."""

    def __init__(self) -> None:
        self.made = False
        self._lock = threading.Lock()
        self._response: urllib3.BaseHTTPResponse | None = None

    def __call__(self) -> None:
        """Cut what is being read, and whatever is read later."""
        with self._lock:
            self.made = True
            self._shut()

    def at(self, response: urllib3.BaseHTTPResponse | None) -> None:
        """Say which answer is being read; None when none is."""
        with self._lock:
            self._response = response
            if self.made:
                self._shut()

    def _shut(self) -> None:
        if self._response is not None:
            with suppress(OSError, RuntimeError, ValueError):  # it has just ended by itself
                self._response.shutdown()


class Calls:
    """Calls to one etcd, from any thread."""

    def __init__(self, options: EtcdOptions) -> None:
        seconds = options.timeout.total_seconds()
        self._options = options
        self._token = ""
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=seconds, read=seconds),
            retries=False,
            ca_certs=str(options.ca) if options.ca else None,
            cert_file=str(options.certificate) if options.certificate else None,
            key_file=str(options.key) if options.key else None,
            server_hostname=options.server_name,
        )

    def call(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Make a call and return its answer."""
        try:
            with self._request(path, body) as response:
                answer: dict[str, Any] = json.loads(response.read())
                return answer
        except (HTTPError, ValueError) as error:
            raise Unreachable(str(error)) from error

    def stream(self, path: str, body: Mapping[str, object], cut: Cut) -> Iterator[dict[str, Any]]:
        """Make a call that goes on, and yield its results until it is cut, or nothing came for `timeout`."""
        try:
            response = self._request(path, body)
        except (HTTPError, ValueError) as error:
            raise Unreachable(str(error)) from error
        try:
            with response:
                cut.at(response)
                try:
                    yield from _results(response)
                finally:
                    cut.at(None)
        except ReadTimeoutError:
            return
        except (HTTPError, ValueError) as error:
            if not cut.made:
                raise Unreachable(str(error)) from error
        if not cut.made:
            raise Unreachable("it ended the watch")

    def close(self) -> None:
        """Give up the connections."""
        self._http.clear()

    def _request(self, path: str, body: Mapping[str, object]) -> urllib3.BaseHTTPResponse:
        """Post, as the user that we are: log in at first, and once more where the token has expired."""
        code, said = 0, ""
        for _ in range(2):
            if self._options.user and not self._token:
                self._token = self._log_in()
            response = self._post(path, body)
            if response.status == 200:
                return response
            code, said = _error(response)
            if code != UNAUTHENTICATED or not self._token:
                break
            self._token = ""
        if "too large" in said or "larger than max" in said:
            raise Refused(said)
        if code == OUT_OF_RANGE:
            raise Compacted(said)
        raise Unreachable(said)

    def _log_in(self) -> str:
        password = self._options.password.get_secret_value() if self._options.password else ""
        with self._post("auth/authenticate", {"name": self._options.user, "password": password}) as response:
            if response.status != 200:
                raise Unreachable(f"user {self._options.user}: {_error(response)[1]}")
            return str(json.loads(response.read())["token"])

    def _post(self, path: str, body: Mapping[str, object]) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": self._token} if self._token else {}
        return self._http.request(
            "POST", f"{self._options.address}/v3/{path}", json=body, headers=headers, preload_content=False
        )


def _results(response: urllib3.BaseHTTPResponse) -> Iterator[dict[str, Any]]:
    """The results of a call that goes on: one a line, in parts of any size."""
    rest = b""
    for part in response.stream():
        *lines, rest = (rest + part).split(b"\n")
        for line in filter(None, lines):
            answer = json.loads(line)
            if "result" not in answer:
                raise ValueError(str(answer.get("error", answer)))
            yield answer["result"]


def _error(response: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    """The code and the words with which etcd refuses a call; code 0 where what answered is no etcd."""
    with response:
        text = response.read(10_000).decode(errors="replace")
    try:
        answer = json.loads(text)
        return int(answer["code"]), str(answer["message"])
    except (ValueError, KeyError, TypeError):
        return 0, f"status {response.status}, {text.strip()!r}: is that etcd?"
