"""Requests to the API server, as plain JSON, with a pace, a deadline and typed errors.

Configuration, credentials, TLS and the connection pool are the official client's; its generated API classes and models
are not used, since importing and filling them takes 80 MB and ten times as long.
"""

from __future__ import annotations

import asyncio
import json
import re
from asyncio import constants, sslproto
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from chaosd import __version__
from chaosd.cluster.inflight import patiently
from chaosd.cluster.kubernetes.pace import Pace, retry_after
from chaosd.errors import (
    ClusterError,
    ConflictError,
    DeniedError,
    ExpiredError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    ThrottledError,
    UnreachableError,
    UsageError,
)

REQUEST_SECONDS = 15.0
_CONNECT_SECONDS = 5.0
# Of what changes nothing. An API server that is away altogether is told of after two or three seconds.
_ATTEMPTS = 5
# Each watch and each exec session holds a connection, so the pool has no bound of its own (0 in aiohttp).
_CONNECTIONS = 0
# A connection stays in the pool: ten targets that ask for their rights at once made a hundred. What changes something,
# such as an undo or the renewal of a Lease, waits for none of these.
_ASKED_AT_ONCE = 16
# What a TLS connection has room for, received and to be sent.
_TLS_BUFFER_KIB = 64

_ERRORS: Mapping[int, type[ClusterError]] = {
    HTTPStatus.BAD_REQUEST: RefusedError,
    HTTPStatus.UNPROCESSABLE_ENTITY: RefusedError,
    HTTPStatus.UNAUTHORIZED: ForbiddenError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.GONE: ExpiredError,
    HTTPStatus.TOO_MANY_REQUESTS: ThrottledError,
}

_MAY_NOT = re.compile(r'User "[^"]*" cannot \w+ (resource|path) ')
_UPGRADE = "Upgrade request required"
_USER_AGENT = f"chaosd/{__version__}"

Query = Sequence[tuple[str, str]]


async def load_configuration(kubeconfig: Path | None, context: str | None) -> Configuration:
    """From `kubeconfig`, else KUBECONFIG or ~/.kube/config, else the pod's service account.

    Raises UsageError, which says what was looked for.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    default = Path(KUBE_CONFIG_DEFAULT_LOCATION.split(":")[0]).expanduser()
    chosen = kubeconfig or default
    if kubeconfig and not kubeconfig.exists():
        raise UsageError(f"kubeconfig {kubeconfig}: no such file: name another with --kubeconfig")
    given = bool(kubeconfig) or default.exists()
    try:
        if given:
            await load_kube_config(str(chosen), context=context, client_configuration=configuration, persist_config=False)
        else:
            load_incluster_config(client_configuration=configuration)
    except ConfigException as error:
        if given:
            raise UsageError(f"kubeconfig {chosen}: {error}: name another with --kubeconfig or --context") from error
        raise UsageError(
            f"no kubeconfig: neither --kubeconfig nor KUBECONFIG names one, {default} is not there, and this is no pod "
            f"({error}); or try --cluster sandbox"
        ) from error
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise UsageError(f"kubeconfig {chosen} cannot be read: {error}: name another with --kubeconfig") from error
    return configuration


class Client:
    """One connection pool to one API server, which is asked at one pace by all."""

    def __init__(self, configuration: Configuration, pace: Pace) -> None:
        self._configuration = configuration
        self._pace = pace
        self._asked = asyncio.Semaphore(_ASKED_AT_ONCE)
        _keep_tls_buffers_small()
        self._rest = RESTClientObject(configuration)

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    async def ask(self, method: str, path: Sequence[str], *, query: Query = (), body: Any = None) -> dict[str, Any]:
        """A request that changes nothing, so that it is made again where it fails for no reason of its own. Raises
        ClusterError."""
        async for attempt in patiently(REQUEST_SECONDS, _ATTEMPTS):
            with attempt:
                async with self._asked:
                    return await self.request(method, path, query=query, body=body)
        raise AssertionError("the last attempt raises")

    async def request(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Query = (),
        body: Any = None,
        content_type: str = "application/json",
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> dict[str, Any]:
        """One request, and the object that answers it. Raises ClusterError."""
        asked = self.response(
            method, path, query=query, body=body, content_type=content_type, timeout_seconds=timeout_seconds
        )
        async with asked as response:
            answer = _parsed(await response.read())
        if not isinstance(answer, dict):
            raise UnreachableError(f"{_what(method, path)}: the answer is no JSON object: is that an API server?")
        return answer

    @asynccontextmanager
    async def response(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Query = (),
        body: Any = None,
        content_type: str = "application/json",
        timeout_seconds: float,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body the caller reads. Raises ClusterError, also for what breaks while it is read."""
        what = _what(method, path)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=_CONNECT_SECONDS)
        async with self._paced(what):
            headers = {"Accept": "application/json", "Content-Type": content_type, **await self._headers()}
            sent = await self._rest.request(
                method, self._url(path, query), headers=headers, body=body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = sent.response
            try:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _refusal(response, await response.read(), what)
                yield response
            finally:
                response.close()

    @asynccontextmanager
    async def websocket(
        self, path: Sequence[str], *, query: Query, protocols: Sequence[str], heartbeat_seconds: float
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A websocket. Raises ClusterError when it cannot be opened."""
        what = _what("GET", path)
        url = "ws" + self._url(path, query).removeprefix("http")
        timeouts = aiohttp.ClientWSTimeout(ws_close=1.0)
        if self._rest.pool_manager is None:
            self._rest.pool_manager = self._rest._create_pool_manager()
        try:
            async with self._paced(what), asyncio.timeout(REQUEST_SECONDS):
                socket = await self._rest.pool_manager.ws_connect(
                    url,
                    protocols=protocols,
                    headers=await self._headers(),
                    heartbeat=heartbeat_seconds,
                    max_msg_size=0,
                    timeout=timeouts,
                )
        except (ForbiddenError, RefusedError) as error:
            raise await self._in_words(error, path, query) from error
        try:
            yield socket
        finally:
            await socket.close()

    async def _in_words(self, refusal: ClusterError, path: Sequence[str], query: Query) -> ClusterError:
        """A handshake is refused without a word of why. The same request without its upgrade meets authorizers and
        admission before it is refused for that, so nothing is executed (k8s.io/apimachinery, proxy/upgradeaware.go)."""
        try:
            async with self.response("GET", path, query=query, timeout_seconds=REQUEST_SECONDS):
                return refusal
        except (ForbiddenError, RefusedError) as told:
            return refusal if _UPGRADE in str(told) else told
        except ClusterError:
            return refusal

    @asynccontextmanager
    async def _paced(self, what: str) -> AsyncIterator[None]:
        """A request at its turn, whose errors say when another attempt may be of use."""
        await self._pace.turn()
        try:
            with translated(what):
                yield
        except (UnreachableError, ThrottledError) as error:
            error.retry_after = self._pace.failed(error.retry_after)
            raise
        self._pace.succeeded()

    async def _headers(self) -> dict[str, str]:
        """Who asks. The token is asked for each time: the client reads an in-cluster one again every minute."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"User-Agent": _USER_AGENT, **({"authorization": token} if token else {})}

    def _url(self, path: Sequence[str], query: Query) -> str:
        joined = "/".join(quote(part, safe="") for part in path)
        asked = f"?{urlencode(query)}" if query else ""
        return f"{self._configuration.host.rstrip('/')}/{joined}{asked}"


def _keep_tls_buffers_small() -> None:
    """asyncio has 256 KiB for what a TLS connection may receive at once, and lets 512 KiB wait to be sent, whose room it
    never gives back: a daemon holds a connection for each watch and each replica. aiohttp makes the connections and has no
    option for either, so this is set for the process."""
    sslproto.SSLProtocol.max_size = _TLS_BUFFER_KIB << 10
    constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE = _TLS_BUFFER_KIB  # type: ignore[misc]


@contextmanager
def translated(what: str) -> Iterator[None]:
    """The one place where errors of the client, aiohttp and the system become chaosd's, with their cause."""
    try:
        yield
    except aiohttp.WSServerHandshakeError as error:
        raise error_of(error.status, error.message, what, error.headers) from error
    except ApiException as error:
        raise error_of(error.status or 0, str(error.reason), what) from error
    except ConfigException as error:  # a token's file while it is replaced
        raise UnreachableError(f"{what}: {error}") from error
    except TimeoutError as error:
        raise UnreachableError(f"{what}: no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UnreachableError(f"{what}: {error}: is the API server there?") from error


def error_of(status: int, message: str, what: str, headers: Mapping[str, str] | None = None) -> ClusterError:
    """The error for an HTTP status; what is not known of it came from something in between, or from a server in need."""
    error = _ERRORS.get(status, UnreachableError)(f"{what}: {message or HTTPStatus(status).phrase} ({status})")
    error.retry_after = retry_after((headers or {}).get("Retry-After"))
    return error


def _refusal(response: aiohttp.ClientResponse, text: bytes, what: str) -> ClusterError:
    """Admission, such as Pod Security, a quota or a webhook, answers a write or a session with 403 as the authorizers do,
    whose answer says who may not do what; or, a policy does, with 422. Source: k8s.io/apiserver,
    endpoints/handlers/responsewriters/errors.go, forbiddenMessage."""
    message = _message(text)
    error = error_of(response.status, message, what, response.headers)
    session = response.url.path.endswith("/exec")
    forbids = response.status == HTTPStatus.FORBIDDEN and (response.method != "GET" or session)
    if (forbids and not _MAY_NOT.search(message)) or (session and response.status == HTTPStatus.UNPROCESSABLE_ENTITY):
        return DeniedError(str(error))
    return error


def _what(method: str, path: Sequence[str]) -> str:
    return f"{method} /{'/'.join(path)}"


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _message(text: bytes) -> str:
    """The message of a Status object; the beginning of anything else."""
    answer = _parsed(text)
    if isinstance(answer, dict):
        return str(answer.get("message", ""))
    return text[:200].decode(errors="replace").strip()
