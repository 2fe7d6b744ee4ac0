"""What the sandbox reads of a manifest, checked before anything is made of it, as an API server would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from chaosd.errors import RefusedError
from chaosd.quantities import KUBERNETES_QUANTITY

_Labels = dict[str, str]


class _Metadata(BaseModel):
    name: str
    namespace: str = "default"
    labels: _Labels | None = None
    annotations: _Labels | None = None


class _Mount(BaseModel):
    name: str
    mountPath: str  # noqa: N815 - Kubernetes' name


class _Container(BaseModel):
    name: str
    volumeMounts: list[_Mount] = []  # noqa: N815


class _PodSpec(BaseModel):
    containers: Annotated[list[_Container], Field(min_length=1)]
    volumes: list[dict[str, Any]] = []


class _TemplateMetadata(BaseModel):
    labels: _Labels


class _Template(BaseModel):
    metadata: _TemplateMetadata
    spec: _PodSpec


class _Requests(BaseModel):
    storage: Annotated[str, Field(pattern=f"^{KUBERNETES_QUANTITY}$")]


class _Resources(BaseModel):
    requests: _Requests


class _ClaimSpec(BaseModel):
    accessModes: Annotated[list[str], Field(min_length=1)]  # noqa: N815
    resources: _Resources


class _ClaimMetadata(BaseModel):
    name: str


class _ClaimTemplate(BaseModel):
    metadata: _ClaimMetadata
    spec: _ClaimSpec


class _Selector(BaseModel):
    matchLabels: _Labels  # noqa: N815


class _Spec(BaseModel):
    replicas: Annotated[int, Field(ge=0, strict=True)] = 1
    selector: _Selector
    template: _Template
    volumeClaimTemplates: list[_ClaimTemplate] = []  # noqa: N815


class _StatefulSet(BaseModel):
    metadata: _Metadata
    spec: _Spec


def check(document: Mapping[str, Any]) -> None:
    """Raises RefusedError for a StatefulSet that an API server would refuse, with the place and the reason."""
    try:
        found = _StatefulSet.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise RefusedError(f"StatefulSet: {place}: {problem['msg']} (values of labels are quoted text)") from error
    wanted, labels = found.spec.selector.matchLabels, found.spec.template.metadata.labels
    if not wanted.items() <= labels.items():
        raise RefusedError(f"StatefulSet {found.metadata.name}: its selector {wanted} does not match its template's labels")
