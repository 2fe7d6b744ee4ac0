"""The recipes for CI whose schema is in a Go module: it is fetched through the proxy that Go is set up for."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "ci"
_ARGO = "github.com/argoproj/argo-workflows/v4@v4.0.5", "h1:/1lru5oXUd+k6KEDUps6rLX5OKfi1jTfabgXTly/VFU="
_TEKTON = "github.com/tektoncd/pipeline@v1.6.0", "h1:A+D+jzOVl2QNl/yiNT7csVgBUy2wpz6K6+/D4q5lfss="

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not shutil.which("go"), reason="needs Go: apt-get install golang-go")]


def _module(name: str, digest: str) -> Path:
    """The folder of a Go module."""
    done = subprocess.run(["go", "mod", "download", "-json", name], capture_output=True, text=True, timeout=500)
    told = json.loads(done.stdout)
    assert told.get("Sum") == digest, told
    return Path(told["Dir"])


def _strict(schema: Any) -> Any:
    """The schema, with objects that have no other fields than those that it names."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = (
        schema.get("type") == "object" and "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
    )
    return {**({"additionalProperties": False} if closed else {}), **{name: _strict(part) for name, part in schema.items()}}


@pytest.fixture(scope="module")
def argo() -> Any:
    """What a WorkflowTemplate may be."""
    schema = json.loads((_module(*_ARGO) / "api" / "jsonschema" / "schema.json").read_text())
    return _strict({**schema, "oneOf": [{"$ref": "#/definitions/io.argoproj.workflow.v1alpha1.WorkflowTemplate"}]})


@pytest.fixture(scope="module")
def tekton() -> Any:
    """What a Task may be, as the API server is told."""
    definition = yaml.safe_load((_module(*_TEKTON) / "config" / "300-crds" / "300-task.yaml").read_text())
    versions = {version["name"]: version["schema"]["openAPIV3Schema"] for version in definition["spec"]["versions"]}
    schema: dict[str, Any] = versions["v1"]
    metadata = {"type": "object", "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}}}
    return _strict({**schema, "properties": {**schema["properties"], "metadata": metadata}})


@pytest.mark.parametrize(("recipe", "wrong"), [("argo", "containers"), ("tekton", "stepz")])
def test_a_recipe_is_what_the_published_schema_says(recipe: str, wrong: str, request: pytest.FixtureRequest) -> None:
    schema = request.getfixturevalue(recipe)
    (path,) = RECIPES.glob(f"{recipe}*.yaml")
    document = yaml.safe_load(path.read_text())
    jsonschema.validate(document, schema)
    place = document["spec"]["templates"][0] if recipe == "argo" else document["spec"]
    with pytest.raises(jsonschema.ValidationError, match=wrong):
        jsonschema.validate({**document, "spec": {**document["spec"], wrong: place}}, schema)
