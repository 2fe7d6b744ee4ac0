"""Changes what etcd holds behind the API server's back, through etcd's JSON gateway and inside its network namespace."""

from __future__ import annotations

import base64
import json
from typing import Any

from testbed.layout import CONTROL_PLANE, ETCD_PORT
from testbed.shell import TestbedError, run


def overwrite(key: str, old: str, new: str) -> None:
    """Replace `old` in the object with this key (below /registry/) by `new`.

    Objects are stored as protocol buffers, in which a text has its length before it: so both must be of the same length.
    """
    if len(old.encode()) != len(new.encode()):
        raise TestbedError(f"{old} and {new} are not of the same length")
    whole_key = _encoded(f"/registry/{key}".encode())
    stored = _ask("range", {"key": whole_key}).get("kvs")
    if not stored:
        raise TestbedError(f"etcd has no /registry/{key}")
    value = base64.b64decode(stored[0]["value"])
    if old.encode() not in value:
        raise TestbedError(f"/registry/{key} does not hold {old}")
    put = {"key": whole_key, "value": _encoded(value.replace(old.encode(), new.encode()))}
    unchanged = {"key": whole_key, "target": "MOD", "result": "EQUAL", "mod_revision": stored[0]["mod_revision"]}
    if not _ask("txn", {"compare": [unchanged], "success": [{"request_put": put}]}).get("succeeded"):
        raise TestbedError(f"/registry/{key} changed meanwhile")


def _ask(what: str, question: Any) -> Any:
    body = json.dumps(question)
    request = f"POST /v3/kv/{what} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    inside = ("nsenter", f"--net=/run/netns/{CONTROL_PLANE.network}")
    # etcd drops a request whose sender closes his side before the answer.
    answer = run(*inside, "socat", "-t", "10", "-", f"TCP:127.0.0.1:{ETCD_PORT},shut-none", stdin=request)
    head, _, content = answer.partition("\n\n")  # `run` reads text, with plain ends of lines
    if " 200 " not in head.partition("\n")[0]:
        raise TestbedError(f"etcd answered {what} with {answer}")
    return json.loads(content)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
