"""Experiments: good files are read, bad ones are refused with the place and the mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from chaosd import experiment
from chaosd.errors import ExperimentError

ROOT = Path(__file__).parent.parent
GOOD = """
name: soak
target: {statefulset: web}
disruptions: [{kind: pod-delete}]
"""


def refused(text: str) -> str:
    with pytest.raises(ExperimentError) as caught:
        experiment.parse(text, "e.yaml")
    return str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda p: p.name)
def test_every_experiment_that_is_shipped_can_be_read_and_names_its_schema(path: Path) -> None:
    assert experiment.load(path).name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=experiment.schema.json\n#")


def test_the_committed_schema_is_the_models() -> None:
    assert (ROOT / "experiments/experiment.schema.json").read_text() == experiment.schema()


def test_defaults_are_filled_in() -> None:
    read = experiment.parse(GOOD, "e.yaml")
    assert (read.target.namespace, read.target.folder, read.target.require_claim) == ("default", ".chaosd", True)
    assert read.workload.size == 65536


def test_no_such_file_is_told_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"No such file.*name an experiment file"):
        experiment.load(tmp_path / "nope.yaml")


def test_broken_yaml_is_told_with_line_and_column() -> None:
    assert refused("name: soak\ntarget: {statefulset: web\n").startswith("e.yaml:3:1: no YAML")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "roundz: 3", "roundz: unknown field: did you mean rounds?"),
        (GOOD.replace("pod-delete}", "pod-delete, gracee: 3}"), "did you mean grace?"),
        (GOOD.replace("{statefulset: web}", "{statefulset: web, requireclaim: true}"), "did you mean requireClaim?"),
        (GOOD + "workload: {size: 5000}", "workload: size must be a multiple of 4Ki"),
        (GOOD + "workload: {size: 64kb}", "'64kb' is no quantity of bytes"),
        (GOOD + "workload: {files: -1}", "workload.files: Input should be greater than or equal to 0"),
        (GOOD + "duration: soon", "'soon' is no duration: write such as 90s"),
        (GOOD + "rounds: 0", "rounds: Input should be greater than or equal to 1"),
        (GOOD + "timeouts: {read: 0}", "timeouts.read"),
        (GOOD.replace("disruptions: [{kind: pod-delete}]", ""), "give either disruptions"),
        (GOOD.replace("pod-delete", "pod-explode"), "no such kind as 'pod-explode': did you mean pod-delete?"),
        (GOOD.replace("statefulset: web", "path: /data"), "target.statefulset: Field required"),
        ("- a\n- b\n", "an experiment is a mapping"),
        ("name: s\ntarget: {statefulset: w}\nsteps: [{name: x, expect: [own-claim]}]", "did you mean own-claims?"),
        ("name: s\ntarget: {statefulset: w}\nsteps: [{name: x, expect: [claim-count]}]", "needs the parameter 'count'"),
        ("name: s\ntarget: {statefulset: w}\nrounds: 2\nsteps: [{name: x}]", "a script ends with its last step"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_mend(text: str, told: str) -> None:
    assert told in refused(text)


def test_a_field_cannot_be_slipped_in_by_its_python_name_only() -> None:
    schema = json.loads(experiment.schema())
    assert "requireClaim" in schema["$defs"]["TargetSpec"]["properties"]


def test_options_are_laid_over_the_file_and_checked() -> None:
    read = experiment.parse(GOOD, "e.yaml")
    assert experiment.overlay(read, {"rounds": 3, "seed": 9}).rounds == 3
    with pytest.raises(ExperimentError, match="seed"):
        experiment.overlay(read, {"seed": -1})


def test_the_walkthrough_is_about_the_manifest_that_is_shipped() -> None:
    documents = list(yaml.safe_load_all((ROOT / "experiments/targets/web.yaml").read_text()))
    service, statefulset = documents
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"] == [{"port": 80, "name": "web"}]
    spec = statefulset["spec"]
    assert (spec["serviceName"], spec["replicas"]) == ("nginx", 2)
    (template,) = spec["volumeClaimTemplates"]
    assert template["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "alicloud-disk-ssd",
        "resources": {"requests": {"storage": "20Gi"}},
    }
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == "nginx"
    assert container["volumeMounts"] == [{"name": "disk-ssd", "mountPath": "/data"}]
