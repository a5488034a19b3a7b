"""One way to the API server: JSON in and out, deadlines on everything, errors by what to do about them.

Under it is the official client: its configuration, its credentials and its connections. What it adds: the
credentials are loaded anew when they are refused, retries that honour `Retry-After`, and readable errors.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import urllib3
from kubernetes import config as kubeconfigs
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader
from urllib3.exceptions import HTTPError

from hamlet_core.api import ConfigError, HamletError, RegistryUnavailable
from hamlet_istio.access import ClusterOptions

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
PAGE = 500
"""Objects of one page of a list, as kubectl takes them."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its `token` and `ca.crt` (Kubernetes, "Accessing the Kubernetes API from a Pod")."""
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_AGAIN = frozenset({429, 500, 502, 503, 504})

Object = dict[str, Any]


class Refusal(HamletError):
    """The API server answered, and not with success. `reason` is its word (`Conflict`, `NotFound`, ...)."""

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.said, self.details = status, reason, message, details


class Connection:
    """The API server as these options reach it. Its methods may be called from any thread."""

    def __init__(self, options: ClusterOptions, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self._timeout = (options.connect_timeout.total_seconds(), options.timeout.total_seconds())
        self._lock = threading.Lock()
        self._client: ApiClient | None = None
        self.requests: dict[str, int] = {}
        """How many requests were made, by method."""

    # Opening

    def settings(self) -> Configuration:
        """How the client is set up by the options. Raises `ConfigError` where they give no way in."""
        options = self._options
        settings = Configuration()
        settings.retries = False  # we repeat what may be repeated ourselves
        settings.connection_pool_maxsize = options.concurrency + 8
        try:
            if options.server is not None:
                settings.host = options.server.rstrip("/")
                settings.ssl_ca_cert = str(self._directory / options.ca) if options.ca else None
                self._take_token(settings, options.token_file and self._directory / options.token_file)
            elif options.in_cluster or self._in_pod():
                token, ca = (
                    self._directory / given if given else SERVICE_ACCOUNT / usual
                    for given, usual in ((options.token_file, "token"), (options.ca, "ca.crt"))
                )
                loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
                    str(token), str(ca), try_refresh_token=False
                )
                loader.load_and_set(settings)  # type: ignore[no-untyped-call]
                self._take_token(settings, token)
            else:
                file = str(self._directory / options.kubeconfig) if options.kubeconfig else None
                kubeconfigs.load_kube_config(  # type: ignore[no-untyped-call]
                    file, context=options.context, client_configuration=settings
                )
        except (ConfigException, OSError) as error:
            message = f"no way to the API server: {error}"
            mend = "set `kubeconfig` and `context`, or `server` and `token_file`, or run in a pod with `in_cluster`"
            raise ConfigError(message, mend=mend) from error
        if options.proxy:
            settings.proxy = options.proxy
            settings.no_proxy = None  # it was named for this very server
            settings.proxy_ssl_context = ssl.create_default_context()  # a proxy's authority is another than `ca`
        if options.proxy_credentials:
            credentials = options.proxy_credentials.get_secret_value()
            settings.proxy_headers = urllib3.make_headers(proxy_basic_auth=credentials)
        return settings

    def _in_pod(self) -> bool:
        options = self._options
        elsewhere = options.kubeconfig or options.context
        return options.in_cluster is None and not elsewhere and (SERVICE_ACCOUNT / "token").exists()

    def _take_token(self, settings: Configuration, file: Path | None) -> None:
        """Have the token of the options, or the one that stands in `file` whenever it is asked for."""
        given, seen = self._options.token, None

        def read(settings: Configuration) -> None:
            nonlocal seen
            assert file is not None
            stat = file.stat()
            if seen != (stat.st_mtime_ns, stat.st_ino):
                settings.api_key["BearerToken"] = f"Bearer {file.read_text().strip()}"
                seen = (stat.st_mtime_ns, stat.st_ino)

        if given is not None:
            settings.api_key["BearerToken"] = f"Bearer {given.get_secret_value()}"
        else:
            read(settings)
            settings.refresh_api_key_hook = read  # type: ignore[assignment]

    def _opened(self) -> ApiClient:
        with self._lock:
            if self._client is None:
                self._client = ApiClient(self.settings())
            return self._client

    def _reload(self, refused: str | None) -> bool:
        """Load the credentials anew after `refused` was; whether there are others now."""
        with self._lock:
            old, self._client = self._client, None
        fresh = self._opened().configuration.get_api_key_with_prefix("BearerToken")
        if old is not None:
            old.rest_client.pool_manager.clear()
        return bool(fresh != refused)

    @property
    def host(self) -> str:
        """The URL of the API server."""
        return str(self._opened().configuration.host)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            if self._client is not None:
                self._client.rest_client.pool_manager.clear()
            self._client = None

    # Calling

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        content_type: str = "application/json",
        patiently: bool = False,
    ) -> Object:
        """Make a call and return what came back.

        `Refusal` for what the server refused, `RegistryUnavailable` where it could not be reached or did not
        take our credentials. `patiently`: on 429 and 5xx ask again, as the server says, for as long as `retry`.
        """
        deadline = time.monotonic() + self._options.retry.total_seconds()
        attempt = 0
        while True:
            response = self._send(method, path, query, body, content_type)
            text = response.data
            if response.status < 300:
                found: Object = json.loads(text) if text else {}
                return found
            refusal = _refusal(response.status, text, method, path)
            wait = _wait(response.headers.get("Retry-After"), attempt)
            if not patiently or response.status not in _AGAIN or time.monotonic() + wait > deadline:
                raise refusal
            attempt += 1
            time.sleep(wait)

    def apply(self, path: str, body: Object, manager: str, *, force: bool = False) -> Object:
        """Server-side apply of `body` at `path`; what then stands. A conflict is a `Refusal` with its causes."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return self.call("PATCH", path, query, body, content_type=APPLY, patiently=True)

    def stream(self, path: str, query: Mapping[str, object], *, silence: float) -> urllib3.BaseHTTPResponse:
        """Open a response that is read as it comes; a read that hears nothing for `silence` seconds fails."""
        response = self._send("GET", path, query, None, "", timeout=(self._timeout[0], silence))
        if response.status >= 300:
            raise _refusal(response.status, response.data, "GET", path)
        return response

    def pages(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[Object]:
        """The pages of a list, all of one resource version. A list that got too old midway begins anew: 410."""
        go_on = ""
        while True:
            page = self.call("GET", path, {**(query or {}), "limit": PAGE, **({"continue": go_on} if go_on else {})})
            yield page
            go_on = page["metadata"].get("continue", "")
            if not go_on:
                return

    def listing(self, path: str, query: Mapping[str, object] | None = None) -> tuple[list[Object], str]:
        """Every object of a list, and the resource version it is of."""
        for _ in range(3):
            items: list[Object] = []
            try:
                for page in self.pages(path, query):
                    items += page["items"]
            except Refusal as refusal:
                if refusal.status == 410:  # compacted between two pages
                    continue
                raise
            return items, page["metadata"]["resourceVersion"]
        message = f"the list of {path} expires before it is read"
        raise RegistryUnavailable(message)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        content_type: str,
        timeout: tuple[float, float] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        self.requests[method] = self.requests.get(method, 0) + 1
        for again in (True, False):
            try:
                client = self._opened()
                token = client.configuration.get_api_key_with_prefix("BearerToken")
            except (OSError, ConfigError, ConfigException) as error:
                message = f"no credentials for the API server: {error}"
                mend = getattr(error, "mend", "") or "look at `token_file` or the kubeconfig"
                raise RegistryUnavailable(message, mend=mend) from error
            headers = {"Accept": "application/json", "User-Agent": "hamlet-istio"}
            headers |= {"Content-Type": content_type} if body is not None else {}
            headers |= {"Authorization": token} if token else {}
            connect, read = timeout or self._timeout
            url = f"{client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
            try:
                response = client.rest_client.pool_manager.request(
                    method,
                    url,
                    body=_encoded(body) if body is not None else None,
                    headers=headers,
                    timeout=urllib3.Timeout(connect=connect, read=read),
                    preload_content=timeout is None,
                    retries=False,
                )
            except (HTTPError, OSError) as error:
                message = f"the API server {client.configuration.host} does not answer: {_short(error)}"
                mend = "see whether it runs, and whether `server` or the kubeconfig names the right one"
                raise RegistryUnavailable(message, mend=mend) from error
            if response.status != 401:
                return response
            response.close()
            if not (again and self._reload(token)):
                break
        message = f"the API server {client.configuration.host} does not take our credentials (401)"
        raise RegistryUnavailable(message, mend="the token has expired or was revoked: renew it")


Connect: TypeAlias = Callable[[ClusterOptions, Path], Connection]
"""Makes a connection as options say it, relative paths from a folder."""


def _encoded(body: object) -> bytes:
    """The body as JSON that is YAML too, as which the server reads what is applied.

    YAML knows no pairs of surrogates, so characters stand as they are but those it takes only as an escape.
    """
    text = json.dumps(body, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode(errors="replace")


def _refusal(status: int, text: bytes, method: str, path: str) -> Refusal:
    try:
        said = json.loads(text)
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        said = {}
    message = said.get("message") or text.decode(errors="replace").strip()[:300] or "no reason given"
    return Refusal(status, said.get("reason") or "Unknown", f"{method} {path}: {message}", said.get("details") or {})


def _wait(retry_after: str | None, attempt: int) -> float:
    """Seconds until the next attempt: what the server says, or twice as long each time; with jitter."""
    if retry_after and retry_after.isdigit():
        return int(retry_after) + random.random() / 4  # noqa: S311 - not for secrets
    return min(0.1 * 2.0**attempt, 5.0) * (0.75 + random.random() / 2)  # noqa: S311


def _short(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {reason}"[:300]
