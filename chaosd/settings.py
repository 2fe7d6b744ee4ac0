"""Process settings: where things are, not what is tested. From options, else from `CHAOSD_` environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chaosd.quantities import Seconds


class Webhook(BaseModel):
    """Who is told what came of gates. Address and secret are in files: they stand in no environment, log or ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, description="In log and metrics.")
    ]
    format: Annotated[
        Literal["json", "slack"], Field(description="What the API says of the gate, or a line as Slack takes it.")
    ] = "json"
    url_file: Annotated[Path, Field(alias="urlFile", description="Whose text is the address.")]
    secret_file: Annotated[
        Path | None, Field(alias="secretFile", description="By whose text messages are signed; left out: they are not.")
    ] = None
    ca_file: Annotated[Path | None, Field(alias="caFile", description="Certificates (PEM) that the server's is of.")] = None
    verdicts: Annotated[
        tuple[Literal["pass", "fail", "unknown"], ...], Field(min_length=1, description="Which are told.")
    ] = ("pass", "fail", "unknown")


class Settings(BaseSettings):
    """One process' settings."""

    model_config = SettingsConfigDict(env_prefix="CHAOSD_", frozen=True, extra="forbid")

    cluster: Annotated[Literal["kubernetes", "sandbox"], Field(description="Which cluster is tested.")] = "kubernetes"
    kubeconfig: Annotated[Path | None, Field(description="Left out: KUBECONFIG, ~/.kube/config, in-cluster.")] = None
    context: Annotated[str | None, Field(description="The kubeconfig's context; left out: the current one.")] = None
    out: Annotated[Path, Field(description="Folder for verdict.json, report.txt and, by default, the ledger.")] = Path(
        "chaosd-out"
    )
    ledger: Annotated[str, Field(description="SQLAlchemy URL; left out: SQLite in the out folder.")] = ""
    sandbox_dir: Annotated[Path | None, Field(description="The sandbox's folder; left out: in the out folder.")] = None
    listen: Annotated[str, Field(description="HOST:PORT where the daemon serves.")] = "127.0.0.1:9187"
    lease_seconds: Annotated[int, Field(ge=4, description="How long a dead chaosd keeps others off its target.")] = 45

    log_format: Annotated[Literal["text", "json"], Field(description="Of the daemon's log, on stderr.")] = "text"
    daemon_name: Annotated[str, Field(description="Of the Lease by which one of several daemons leads.")] = "chaosd"
    pod_name: Annotated[str, Field(description="The daemon's own pod, where it runs in one.")] = ""
    pod_namespace: Annotated[str, Field(description="Its namespace, where the Lease is.")] = ""
    ledger_on_tested_storage: Annotated[
        Literal["refuse", "allow"],
        Field(description="What to do about a target of the storage class of the ledger's claim."),
    ] = "refuse"

    drill: Annotated[
        Literal["at-start", "never"], Field(description="When the daemon drills, in a process of its own.")
    ] = "at-start"
    retention: Annotated[
        Seconds, Field(ge=86400, description="How long ops are kept that were judged, such as 7d; what is owed stays.")
    ] = 7 * 86400.0

    pause_token_file: Annotated[
        Path | None, Field(description="Whose text lets the status page pause and resume; left out: it cannot.")
    ] = None

    webhooks: Annotated[tuple[Webhook, ...], Field(description="By which gates' verdicts are told, as JSON.")] = ()

    qps: Annotated[float, Field(gt=0, description="Requests a second to the API server, on average.")] = 50.0
    burst: Annotated[int, Field(ge=1, description="Requests to the API server that need not wait.")] = 100

    @field_validator("webhooks")
    @classmethod
    def _named_once(cls, webhooks: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
        names = [hook.name for hook in webhooks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two webhooks are called {min(twice)}: give each a name of its own")
        return webhooks

    @property
    def ledger_url(self) -> str:
        """Where the ledger is."""
        return self.ledger or f"sqlite:///{self.out / 'chaosd.db'}"

    @property
    def sandbox_folder(self) -> Path:
        """Where the sandbox keeps its state and disks."""
        return self.sandbox_dir or self.out / "sandbox"
