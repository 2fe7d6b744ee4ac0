"""The kill switch: the annotation that stops every chaosd on a StatefulSet or in a namespace, set and taken away."""

from __future__ import annotations

from chaosd.cluster.inflight import patiently
from chaosd.cluster.port import PAUSED_ANNOTATION, Cluster, Namespace, StatefulSet
from chaosd.errors import ForbiddenError, NotFoundError, RightsError, TargetError


async def throw(
    cluster: Cluster, what: type[StatefulSet] | type[Namespace], namespace: str, name: str, *, paused: bool, seconds: float
) -> str:
    """Set it or take it away, `namespace` empty for a namespace; says what is so now. A server in need is asked again for
    so many `seconds`. Raises TargetError where there is no such object, RightsError, ClusterError."""
    named = f"{what.__name__.lower()}/{name}{f' in {namespace}' if namespace else ''}"
    try:
        async for attempt in patiently(seconds):
            with attempt:
                await cluster.annotate(what, namespace, name, {PAUSED_ANNOTATION: "true" if paused else None})
    except NotFoundError as error:
        raise TargetError(f"there is no {named}: name one that is there") from error
    except ForbiddenError as error:
        raise RightsError(f"patch on {named} is not allowed: grant it ({error})") from error
    if paused:
        return f"{named} is paused: nothing there is disrupted until `chaosd resume` takes {PAUSED_ANNOTATION} away"
    return f"{named} is not paused"
