"""What is in ``deploy/``: it parses, it fits the code, and what it promises of safety is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.gateway.config import load

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
ENVIRON = {
    "POSTGRES_PASSWORD": "p",
    "RHEOSTAT_PEPPER": "0123456789abcdef",
    "UPSTREAM_URL": "http://127.0.0.1:9000/v1",
    "UPSTREAM_KEY": "k",
}


def manifests() -> dict[str, Any]:
    """Give every Kubernetes object by its kind."""
    found = [
        document
        for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text("utf-8"))
    ]
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found)
    return by_kind


def test_the_configuration_is_one() -> None:
    """It can be served, with the variables that compose file and manifests ask for."""
    config = load(DEPLOY / "rheostat.yaml", ENVIRON)
    assert config.ledger == "postgresql+psycopg://rheostat:p@postgres/rheostat"
    assert config.auth.mode == "keys"


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody() -> None:
    """From a lock with hashes; a number as its user, so that Kubernetes can check it."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    build, run = text.split("FROM ")[1:]
    lines = re.findall(r"^COPY (?!--)(.+)$", build, re.MULTILINE)
    copied = [word for line in lines for word in line.split()[:-1]]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert kept[0] == "*"
    assert {f"!{word}" for word in copied} <= set(kept)
    assert "--require-hashes" in build
    assert re.search(r"^USER 10001:10001$", run, re.MULTILINE)
    assert "/readyz" in run
    assert run.index("USER") < run.index("ENTRYPOINT")
    command = re.search(r"^CMD \[(.+)\]$", run, re.MULTILINE)
    assert command is not None
    assert '"/etc/rheostat/rheostat.yaml"' in command[1]


def test_the_compose_file_asks_for_every_variable_and_locks_the_gateway_down() -> None:
    """No password is in it, the root is read-only, and the database is not reachable outside."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    gateway, postgres = compose["services"]["gateway"], compose["services"]["postgres"]
    assert gateway["environment"].keys() == ENVIRON.keys()
    given = [*gateway["environment"].values(), postgres["environment"]["POSTGRES_PASSWORD"]]
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value) for value in given)
    assert gateway["read_only"]
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in postgres
    assert postgres["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}
    dockerfile = (DEPLOY / gateway["build"]["context"] / gateway["build"]["dockerfile"]).resolve()
    assert dockerfile == (DEPLOY / "Dockerfile").resolve()
    for volume in gateway["volumes"]:
        assert (DEPLOY / volume.split(":")[0]).exists()


def test_the_manifests_fit_together_and_lock_the_pod_down() -> None:
    """Selectors find the pod, probes its port; it is nobody, without a root to write to."""
    found = manifests()
    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    pod = template["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert not pod["automountServiceAccountToken"]
    secured = container["securityContext"]
    assert secured["readOnlyRootFilesystem"]
    assert not secured["allowPrivilegeEscalation"]
    assert secured["capabilities"] == {"drop": ["ALL"]}
    for probe, path in (("liveness", "/livez"), ("readiness", "/readyz"), ("startup", "/readyz")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert (asked["path"], asked["port"]) == (path, container["ports"][0]["name"])
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert volumes == {mount["name"] for mount in container["volumeMounts"]}
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


@pytest.mark.parametrize("name", sorted(ENVIRON))
def test_every_variable_is_named_where_the_secret_is_made(name: str) -> None:
    """Who copies the commands gets a pod that starts."""
    assert f"--from-literal={name}=" in (DEPLOY / "kubernetes/gateway.yaml").read_text("utf-8")
