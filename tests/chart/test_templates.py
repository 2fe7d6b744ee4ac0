"""What the chart makes of its values, without a cluster."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from chaosd import experiment as experiments
from chaosd.settings import Settings
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    POSTGRESQL,
    RELEASE,
    SOAK,
    Json,
    kinds,
    only,
    pod_specs,
    rendered,
    templates,
)
from tests.seeds import FRESH

NAME = f"{RELEASE}-chaosd"
KUBERNETES = "1.37"
# Each way to set a part of the values; a set of values has one of each part.
PARTS: Mapping[str, Sequence[Json]] = {
    "tested": [
        {},
        {"demo": {"enabled": True, "image": "web:1", "storageClass": "slow"}},
        {"experiments": {"soak": SOAK, "text": (CHART.parents[1] / "experiments" / "drain.yaml").read_text()}},
        {"existingConfigMap": "mine", "targets": [{"namespace": "shop", "disruptions": ["recreate"], "agent": True}]},
    ],
    "ledger": [
        {},
        {"ledger": {"persistence": {"size": "20Gi", "storageClass": "slow"}}},
        {"ledger": {"persistence": {"existingClaim": "mine"}, "onTestedStorage": "allow"}},
        {**POSTGRESQL, "replicas": 3, "podDisruptionBudget": {"maxUnavailable": "50%"}},
    ],
    "image": [
        {},
        {"image": {"repository": "shop.example/chaosd", "digest": f"sha256:{'0' * 64}", "pullSecrets": [{"name": "shop"}]}},
    ],
    "metrics": [
        {},
        {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"a": "b"}}, "prometheusRule": {"enabled": True}}},
        {
            "metrics": {
                "podMonitor": {"enabled": True},
                "dashboard": {"enabled": True, "annotations": {"folder": "Storage"}},
            }
        },
    ],
    "webhooks": [
        {},
        {
            "webhooks": [
                {
                    "name": "team",
                    "existingSecret": "chaosd-team",
                    "signed": True,
                    "ca": True,
                    "verdicts": ["fail", "unknown"],
                },
                {"name": "chat", "existingSecret": "chaosd-chat", "format": "slack"},
            ]
        },
    ],
    "page": [{}, {"statusPage": {"pause": {"existingSecret": "pause", "key": "word"}}}],
    "network": [
        {"networkPolicy": {"enabled": False}},
        {"networkPolicy": {"from": [{"namespaceSelector": {}}], "egress": [{"ports": [{"port": 443}]}]}},
    ],
    "account": [
        {},
        {"serviceAccount": {"create": False}, "rbac": {"create": False}},
        {"serviceAccount": {"name": "tester", "annotations": {"a": "b"}}, "rbac": {"clusterRead": False}},
    ],
    "pod": [
        {},
        {
            "priorityClassName": "high",
            "nodeSelector": {"disk": "none"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
            ],
            "commonLabels": {"team": "storage"},
            "podLabels": {"b": "c"},
            "podAnnotations": {"d": "e"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        },
    ],
    "names": [{}, {"nameOverride": "tester"}, {"fullnameOverride": "tester", "service": {"type": "NodePort", "port": 80}}],
}
ONE_OF_EACH = [parts[-1] for parts in PARTS.values()]


def _value_sets() -> list[Json]:
    """Each way at least once, and twenty sets that nobody has tried before."""
    rng = random.Random(FRESH)
    drawn = [[rng.choice(parts) for parts in PARTS.values()] for _ in range(20)]
    alone = [[part] for parts in PARTS.values() for part in parts]
    return [dict(itertools.chain.from_iterable(part.items() for part in parts)) for parts in [*alone, ONE_OF_EACH, *drawn]]


VALUE_SETS = _value_sets()


@cache
def _rendered(number: int) -> list[Json]:
    return rendered(VALUE_SETS[number])


@pytest.mark.parametrize("number", range(len(VALUE_SETS)))
def test_everything_that_is_made_is_as_kubernetes_defines_it(number: int) -> None:
    values, documents = VALUE_SETS[number], _rendered(number)
    named = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in documents]
    assert len(named) == len(set(named)), values
    for one in documents:
        assert len(one["metadata"]["name"]) <= 63
        if not one["apiVersion"].startswith("monitoring.coreos.com/"):  # its schema is the operator's
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize("number", range(len(VALUE_SETS)))
def test_every_pod_is_restricted_and_can_write_nothing_but_its_volumes(number: int) -> None:
    documents = _rendered(number)
    for _, pod in pod_specs(documents):
        # Source: Kubernetes docs, "Pod Security Standards", Restricted.
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]}
        assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("number", range(len(VALUE_SETS)))
def test_what_is_named_is_there(number: int) -> None:
    """Or was there before, as the values say."""
    values, documents = VALUE_SETS[number], _rendered(number)
    made = {(one["kind"], one["metadata"]["name"]) for one in documents}
    before = {
        ("ConfigMap", values.get("existingConfigMap")),
        ("PersistentVolumeClaim", values.get("ledger", {}).get("persistence", {}).get("existingClaim")),
        ("ServiceAccount", "default"),
    }
    for _, pod in pod_specs(documents):
        assert ("ServiceAccount", pod["serviceAccountName"]) in made | before
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made | before
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in made | before
    deployment = only(documents, "Deployment")
    pod_labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"]["matchLabels"], _service(documents)["spec"]["selector"]):
        assert selector.items() <= pod_labels.items()
    for kind, template in (("Job", "spec"), ("Pod", None)):
        other = only(documents, kind)
        labels = (other["spec"]["template"] if template else other)["metadata"]["labels"]
        assert not _service(documents)["spec"]["selector"].items() <= labels.items()


def test_the_log_that_the_runbooks_look_at_is_the_daemons_and_of_no_other_pod() -> None:
    runbooks = (CHART.parents[1] / "docs" / "runbooks.md").read_text()
    [selector] = re.findall(r"^kubectl logs -n CHAOS -l (\S+)", runbooks, re.MULTILINE)
    wanted = dict(label.split("=") for label in selector.split(","))
    documents = rendered({"demo": {"enabled": True}})
    pods = {"Pod": only(documents, "Pod")} | {
        kind: only(documents, kind)["spec"]["template"] for kind in ("Deployment", "Job", "StatefulSet")
    }
    assert [kind for kind, pod in pods.items() if wanted.items() <= pod["metadata"]["labels"].items()] == ["Deployment"]


def test_the_environment_is_made_of_settings_that_there_are() -> None:
    for number, values in enumerate(VALUE_SETS):
        environment = _environment(_rendered(number), "Deployment")
        names = {name.removeprefix("CHAOSD_").lower() for name in environment if name.startswith("CHAOSD_")}
        assert names <= set(Settings.model_fields), values


def test_webhooks_are_what_the_daemon_takes_and_their_secrets_are_mounted_where_it_looks() -> None:
    values = next(part for part in PARTS["webhooks"] if part)
    [(_, pod)] = [one for one in pod_specs(rendered(values)) if one[0] == NAME]
    [container] = pod["containers"]
    [told] = [one["value"] for one in container["env"] if one["name"] == "CHAOSD_WEBHOOKS"]
    team, chat = Settings(webhooks=json.loads(told)).webhooks
    assert (team.name, team.format, team.verdicts) == ("team", "json", ("fail", "unknown"))
    assert (chat.name, chat.format, chat.verdicts, chat.secret_file) == ("chat", "slack", ("pass", "fail", "unknown"), None)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    secrets = {one["name"]: one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
    assert team.secret_file
    assert team.ca_file
    assert chat.ca_file is None
    of_team = ((team.url_file, "url"), (team.secret_file, "secret"), (team.ca_file, "ca.crt"))
    for file, secret in (*of_team, (chat.url_file, "url")):
        assert file.name == secret
        assert secrets[mounts[str(file.parent)]] == f"chaosd-{file.parent.name}"


def test_settings_get_where_they_belong() -> None:
    daemon = {"logFormat": "text", "leaseSeconds": 20, "qps": 5.5, "burst": 7, "drill": "never"}
    values = {"daemon": daemon, "ledger": {"onTestedStorage": "allow", "retention": "30d"}}
    environment = {
        name: value for name, value in _environment(rendered(values), "Deployment").items() if isinstance(value, str)
    }
    settings = Settings(**{name.removeprefix("CHAOSD_").lower(): value for name, value in environment.items()})
    assert (settings.log_format, settings.lease_seconds, settings.qps, settings.burst) == ("text", 20, 5.5, 7)
    assert (settings.drill, settings.ledger_on_tested_storage, settings.daemon_name) == ("never", "allow", NAME)
    assert settings.ledger_url == "sqlite:////var/lib/chaosd/chaosd.db"
    assert settings.retention == 30 * 86_400
    assert settings.listen == "0.0.0.0:9187"


def test_the_token_to_pause_with_is_a_file_of_its_secret_and_only_then_the_page_may_pause() -> None:
    given = rendered({"statusPage": {"pause": {"existingSecret": "pause", "key": "word"}}})
    assert _environment(given, "Deployment")["CHAOSD_PAUSE_TOKEN_FILE"] == "/etc/chaosd/pause/word"
    pod = only(given, "Deployment")["spec"]["template"]["spec"]
    assert {"name": "pause", "secret": {"secretName": "pause"}} in pod["volumes"]
    mount = {"name": "pause", "mountPath": "/etc/chaosd/pause", "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]
    assert "CHAOSD_PAUSE_TOKEN_FILE" not in _environment(rendered({}), "Deployment")


def test_a_postgresql_is_named_by_a_secret_and_rolls() -> None:
    documents = rendered({"ledger": {"postgresql": {"existingSecret": "db", "key": "dsn"}}})
    assert _environment(documents, "Deployment")["CHAOSD_LEDGER"] == {"secretKeyRef": {"name": "db", "key": "dsn"}}
    assert "PersistentVolumeClaim" not in kinds(documents)
    assert only(documents, "Deployment")["spec"]["strategy"] == {"type": "RollingUpdate"}


def test_a_sqlite_ledger_is_of_one_pod_and_outlives_the_release() -> None:
    documents = rendered({"ledger": {"persistence": {"size": "7Gi", "storageClass": "slow"}}})
    claim = only(documents, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["storageClassName"] == "slow"
    assert claim["spec"]["resources"] == {"requests": {"storage": "7Gi"}}
    deployment = only(documents, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})


def test_experiments_are_what_was_given_whole_numbers_too() -> None:
    big = {**SOAK, "seed": 123456789012, "rounds": 1000000}
    text = (CHART.parents[1] / "experiments" / "soak.yaml").read_text()
    data = only(rendered({"experiments": {"big": big, "soak": text}}), "ConfigMap")["data"]
    assert yaml.safe_load(data["big.yaml"]) == {"name": "big", **big}
    assert yaml.safe_load(data["soak.yaml"]) == yaml.safe_load(text)
    for name, told in data.items():
        experiments.parse(told, name)


def test_changed_experiments_restart_nothing() -> None:
    one, other = (rendered({"experiments": {"soak": {**SOAK, "rounds": rounds}}}) for rounds in (1, 2))
    assert only(one, "Deployment") == only(other, "Deployment")
    assert only(one, "ConfigMap") != only(other, "ConfigMap")


def test_the_demo_is_the_projects_target_and_an_experiment_for_it() -> None:
    documents = rendered({"demo": {"enabled": True, "storageClass": "alicloud-disk-ssd", "image": "nginx"}})
    experiment = experiments.parse(only(documents, "ConfigMap")["data"]["demo.yaml"], "demo.yaml")
    made = only(documents, "StatefulSet", experiment.target.statefulset)
    web = list(yaml.safe_load_all((CHART.parents[1] / "experiments/targets/web.yaml").read_text()))[1]
    assert experiment.target.namespace == NAMESPACE
    assert made["metadata"]["labels"]["chaosd.io/target"] == "true"
    for part in ("replicas", "volumeClaimTemplates"):
        assert made["spec"][part] == web["spec"][part]
    assert made["spec"]["template"]["spec"] == web["spec"]["template"]["spec"]
    assert _environment(documents, "Deployment")["CHAOSD_LEDGER_ON_TESTED_STORAGE"] == "allow"
    assert _environment(rendered({}), "Deployment")["CHAOSD_LEDGER_ON_TESTED_STORAGE"] == "refuse"


def test_a_budget_is_made_for_several_replicas_only() -> None:
    assert "PodDisruptionBudget" not in kinds(rendered({}))
    assert only(rendered({**POSTGRESQL, "replicas": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_nothing_of_prometheus_is_made_unless_it_is_asked_for() -> None:
    assert not [one for one in rendered({}) if one["apiVersion"].startswith("monitoring.coreos.com/")]


def test_rules_and_dashboard_are_the_projects() -> None:
    metrics = {"prometheusRule": {"enabled": True, "labels": {"a": "b"}}, "dashboard": {"enabled": True}}
    documents = rendered({"metrics": metrics})
    rules = CHART.glob("rules/*.rules.yaml")
    groups = [group for path in sorted(rules) for group in yaml.safe_load(path.read_text())["groups"]]
    assert groups
    assert only(documents, "PrometheusRule")["spec"]["groups"] == groups
    dashboard = only(documents, "ConfigMap", f"{NAME}-dashboard")
    shipped = {path.name: json.loads(path.read_text()) for path in CHART.glob("dashboards/*.json")}
    assert shipped
    assert {name: json.loads(text) for name, text in dashboard["data"].items()} == shipped
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_runbooks_are_linked_where_they_are_read() -> None:
    rule = {"enabled": True, "runbookPrefix": "https://git.example/chaosd/blob/main/"}
    groups = only(rendered({"metrics": {"prometheusRule": rule}}), "PrometheusRule")["spec"]["groups"]
    links = [one["annotations"]["runbook_url"] for group in groups for one in group["rules"] if "alert" in one]
    assert links
    assert all(link.startswith("https://git.example/chaosd/blob/main/docs/runbooks.md#") for link in links)


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_monitor_finds_the_daemon_by_its_labels_and_port(kind: str) -> None:
    documents = rendered({"metrics": {f"{kind[0].lower()}{kind[1:]}": {"enabled": True, "interval": "15s"}}})
    monitor = only(documents, kind)["spec"]
    [endpoint] = monitor["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"], endpoint["honorLabels"]) == ("http", "15s", True)
    pod = only(documents, "Deployment")["spec"]["template"]
    found = _service(documents) if kind == "ServiceMonitor" else pod
    assert monitor["selector"]["matchLabels"].items() <= found["metadata"]["labels"].items()
    assert [port["name"] for port in pod["spec"]["containers"][0]["ports"]] == [endpoint["port"]]


def test_before_an_uninstallation_what_is_disturbed_is_healed() -> None:
    job = only(rendered({"experiments": {"soak": SOAK}}), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments == ["shutdown", "/etc/chaosd/experiments", f"--deployment={NAME}", f"--namespace={NAMESPACE}"]


def test_the_test_looks_at_each_experiment() -> None:
    pod = only(rendered({"experiments": {"soak": SOAK, "drain": SOAK}}), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert [one["name"] for one in pod["spec"]["containers"]] == ["daemon", "preflight-drain", "preflight-soak"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "kubectl label statefulset NAME --namespace NAMESPACE chaosd.io/target=true"),
        ({"experiments": {"soak": SOAK}}, f"helm test {RELEASE} --namespace {NAMESPACE}"),
        ({"existingConfigMap": "mine"}, "what the ConfigMap mine says"),
        ({"demo": {"enabled": True}}, "proves nothing"),
        ({"rbac": {"create": False}}, "grant what the test says is missing"),
    ],
)
def test_the_notes_tell_what_to_do_next(values: Json, told: str) -> None:
    [notes] = [text for path, text in templates(values).items() if path.endswith("NOTES.txt")]
    assert told in notes


def test_the_notes_lead_to_what_the_test_saw() -> None:
    values = {"experiments": {"soak": SOAK}}
    [notes] = [text for path, text in templates(values).items() if path.endswith("NOTES.txt")]
    pod = only(rendered(values), "Pod")["metadata"]["name"]  # of several containers, which Helm 3 cannot show (`--logs`)
    assert f"kubectl logs {pod} --namespace {NAMESPACE} --all-containers" in notes


def _service(documents: Sequence[Json]) -> Json:
    return only(documents, "Service", only(documents, "Deployment")["metadata"]["name"])


def _environment(documents: Sequence[Json], kind: str) -> dict[str, Any]:
    """Values, or where they come from, by name."""
    [container] = only(documents, kind)["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
