"""docs/openapi.json: what a daemon serves, for machines that ask it. Source: the OpenAPI Specification 3.1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from chaosd import __version__
from chaosd.exposition import CONTENT_TYPE
from chaosd.report.gate import Gates, GateStatus
from chaosd.status.document import Status

_REF = "#/components/schemas/{model}"
_SECURITY = "token"
_ABOUT = """What `chaosd daemon` serves. All but pausing and resuming only tells, and may be asked by whoever reaches the
port.

Below `/api/` every refusal is an `Error`. Beside the answers that are listed, a method that a path does not have is 405
with `Allow`, a body of more than 64 KiB 413, one that is not there after 10 seconds 408; who takes longer than 20 seconds
for line and headers is closed."""

Json = dict[str, Any]


class Error(BaseModel):
    """Why there is no other answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str


class Thrown(BaseModel):
    """What is so now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    told: str


class Named(BaseModel):
    """What is paused or resumed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str


_MODELS = (Error, GateStatus, Gates, Status, Thrown, Named)


def document() -> str:
    """The document, as JSON with a newline at its end."""
    _, made = models_json_schema([(model, "serialization") for model in _MODELS], ref_template=_REF)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "chaosd daemon", "version": __version__, "description": _ABOUT},
        "paths": _paths(),
        "components": {
            "schemas": made["$defs"],
            "securitySchemes": {_SECURITY: {"type": "http", "scheme": "bearer"}},
        },
    }
    return json.dumps(whole, indent=2) + "\n"


def _paths() -> Mapping[str, Mapping[str, Json]]:
    return {
        "/metrics": {
            "get": _get("metrics", "Prometheus' text format.", {200: _text("All metrics.", CONTENT_TYPE.split(";")[0])})
        },
        "/healthz": {"get": _get("alive", "Whether the process answers.", {200: _text("It does.")})},
        "/readyz": {
            "get": _get(
                "ready",
                "Whether it does its work.",
                {200: _text("It does."), 503: _text("What is missing.")},
            )
        },
        "/api/gate": {
            "get": _get(
                "gates",
                "How all scheduled gates stand.",
                {200: _json("All of them, whether they pass or not.", Gates), **_refusals(400, 503)},
                [_MAX_AGE],
            )
        },
        "/api/gate/{name}": {
            "get": _get(
                "gate",
                "Whether a scheduled gate passes.",
                {
                    200: _json("It passes.", GateStatus, _ETAG),
                    304: {"description": "It passes, as the answer said that has this ETag.", "headers": _ETAG},
                    503: _json(
                        "It does not pass; or, with an `error`, it is not known here and now.", GateStatus, or_error=True
                    ),
                    **_refusals(400, 404),
                },
                [_NAME, _MAX_AGE, _IF_NONE_MATCH],
            )
        },
        "/api/status": {"get": _get("status", "What runs now.", {200: _json("All of it.", Status)})},
        "/api/pause": {"post": _switch("pause", "Pause a target: what is disturbed there is undone, and nothing more is.")},
        "/api/resume": {"post": _switch("resume", "Take that back.")},
        "/": {"get": _get("page", "The status page, for people.", {200: _text("The page.", "text/html")})},
        "/status/page.css": {"get": _get("style", "What the page looks like.", {200: _text("Its style.", "text/css")})},
        "/status/page.js": {
            "get": _get("script", "What keeps it current.", {200: _text("Its script.", "text/javascript")})
        },
        "/events": {
            "get": _get(
                "events",
                "What changes on the page, as server-sent events.",
                {200: _text("Goes on until somebody ends it.", "text/event-stream"), 503: _text("Too many watch already.")},
                [_SINCE],
            )
        },
        "/pause": {
            "post": {
                "operationId": "pause-by-form",
                "summary": "The page's form. It, and the two of the API, are there only where a token is set.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "token": {"type": "string"},
                                    "target": {"type": "string"},
                                    "action": {"enum": ["pause", "resume"]},
                                },
                                "required": ["token", "target", "action"],
                            }
                        }
                    },
                },
                "responses": {
                    **{str(code): _text(_WHY[code], "text/html") for code in (200, 400, 401, 403, 404, 503)},
                    "413": _text(_WHY[413]),  # by the server, before the form is looked at
                },
            }
        },
    }


_WHY: Mapping[int, str] = {
    200: "It is done.",
    400: "What is asked for cannot be meant.",
    401: "The token is missing, or another.",
    403: "The daemon lacks the right; or a browser asks for another site.",
    404: "There is none of that name.",
    413: "The body is too large.",
    503: "The daemon cannot say now: it does not lead, has only just begun, or cannot reach what it needs.",
}
_ETAG: Mapping[str, Json] = {"ETag": {"description": "Of all but the age.", "schema": {"type": "string"}}}
_NAME: Json = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The experiment's.",
    "schema": {"type": "string"},
}
_MAX_AGE: Json = {
    "name": "max_age",
    "in": "query",
    "description": "How long ago the last run may have ended, such as 24h; left out: any time.",
    "schema": {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"},
}
_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "description": "An ETag that is known.",
    "schema": {"type": "string"},
}
_SINCE: Json = {
    "name": "since",
    "in": "query",
    "description": "The version that is known.",
    "schema": {"type": "string"},
}


def _get(name: str, summary: str, answers: Mapping[int, Json], parameters: list[Json] | None = None) -> Json:
    told = {"operationId": name, "summary": summary, "responses": {str(code): answers[code] for code in sorted(answers)}}
    return told | ({"parameters": parameters} if parameters else {})


def _switch(name: str, summary: str) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "security": [{_SECURITY: []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(Named)}}},
        "responses": {
            "200": _json(_WHY[200], Thrown),
            **{str(c): a for c, a in _refusals(400, 401, 403, 404, 413, 503).items()},
        },
    }


def _refusals(*codes: int) -> dict[int, Json]:
    return {code: _json(_WHY[code], Error) for code in codes}


def _json(why: str, model: type[BaseModel], headers: Mapping[str, Json] | None = None, *, or_error: bool = False) -> Json:
    schema = {"anyOf": [_schema(model), _schema(Error)]} if or_error else _schema(model)
    told: Json = {"description": why, "content": {"application/json": {"schema": schema}}}
    return told | ({"headers": headers} if headers else {})


def _text(why: str, kind: str = "text/plain") -> Json:
    return {"description": why, "content": {kind: {"schema": {"type": "string"}}}}


def _schema(model: type[BaseModel]) -> Json:
    return {"$ref": _REF.format(model=model.__name__)}
