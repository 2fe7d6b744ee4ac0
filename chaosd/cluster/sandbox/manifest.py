"""What the sandbox reads of a manifest, checked before anything is made of it, as an API server would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

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


class _Pod(BaseModel):
    metadata: _Metadata
    spec: _PodSpec


class _Config(BaseModel):
    metadata: _Metadata
    data: _Labels = {}


class _Namespace(BaseModel):
    metadata: _Metadata


class _ScaleTarget(BaseModel):
    kind: str = "Deployment"
    name: str


class _AutoscalerSpec(BaseModel):
    scaleTargetRef: _ScaleTarget  # noqa: N815


class _Autoscaler(BaseModel):
    metadata: _Metadata
    spec: _AutoscalerSpec


_Amount = Annotated[int, Field(ge=0, strict=True)] | Annotated[str, Field(pattern=r"^\d+%?$")]


class _BudgetSpec(BaseModel):
    selector: _Selector
    minAvailable: _Amount | None = None  # noqa: N815
    maxUnavailable: _Amount | None = None  # noqa: N815


class _Budget(BaseModel):
    metadata: _Metadata
    spec: _BudgetSpec


_Model = TypeVar("_Model", bound=BaseModel)
_MODELS: Mapping[str, type[BaseModel]] = {
    "Namespace": _Namespace,
    "ConfigMap": _Config,
    "PodDisruptionBudget": _Budget,
    "Pod": _Pod,
    "HorizontalPodAutoscaler": _Autoscaler,
    "ScaledObject": _Autoscaler,
}


def check(document: Mapping[str, Any]) -> None:
    """Raises RefusedError for a StatefulSet that an API server would refuse, with the place and the reason."""
    found = _checked(_StatefulSet, "StatefulSet", document)
    wanted, labels = found.spec.selector.matchLabels, found.spec.template.metadata.labels
    if not wanted.items() <= labels.items():
        raise RefusedError(f"StatefulSet {found.metadata.name}: its selector {wanted} does not match its template's labels")


def check_other(document: Mapping[str, Any]) -> None:
    """The same for what is no StatefulSet. Raises RefusedError, also for a pod that wants the node's processes."""
    _checked(_MODELS[document["kind"]], document["kind"], document)
    if document["kind"] == "Pod" and document["spec"].get("hostPID"):
        raise RefusedError(f"Pod {document['metadata']['name']}: hostPID: a sandbox's nodes have no processes")


def _checked(model: type[_Model], kind: str, document: Mapping[str, Any]) -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise RefusedError(f"{kind}: {place}: {problem['msg']} (values of labels are quoted text)") from error
