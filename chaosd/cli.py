"""The command line: options into settings, results into exit codes, and nothing else.

Exit codes: 0 pass; 1 a violation; 2 usage or an invalid experiment; 3 inconclusive; 4 aborted. Where several fit: 2, 1,
4, 3, 0.

A command imports what it does when it is called: help and completion are to come at once, and a daemon has no use for what
draws on terminals.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from chaosd import __version__, completion, examples
from chaosd.errors import AbortedError, ChaosdError, ExperimentError, UsageError
from chaosd.report.formats import FILES, LATEST

if TYPE_CHECKING:
    from rich.console import RenderableType

    from chaosd.drill.table import Drilled
    from chaosd.experiment import Experiment
    from chaosd.own_target import Wanted
    from chaosd.progress import Progress
    from chaosd.remote_gate import Remote
    from chaosd.run import Ending, Finished
    from chaosd.settings import Settings

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PASS, VIOLATED, USAGE, INCONCLUSIVE, ABORTED = range(5)
_WORST_FIRST = (USAGE, VIOLATED, ABORTED, INCONCLUSIVE, PASS)

# By what kubectl calls them, too.
_KINDS = {"statefulset": "statefulset", "sts": "statefulset", "namespace": "namespace", "ns": "namespace"}

_REMOTE_TIMEOUT = "6h"
# What `chaosd gate` takes where it asks a daemon, and nothing else.
_OF_REMOTE = frozenset({"remote", "name", "max_age", "wait", "timeout", "ca_file", "token_file"})

# Of a table that no terminal shows.
_PIPED_COLUMNS = 160

app = typer.Typer(
    help="Chaos and durability testing for Kubernetes StatefulSets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Result = TypeVar("Result")

Subject = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT.yaml|statefulset/NAME", help="What is done, or to what.", autocompletion=completion.subjects
    ),
]
Pausable = Annotated[
    str,
    typer.Argument(
        metavar="statefulset/NAME|namespace/NAME", help="Where nothing is done.", autocompletion=completion.pausable
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of the target. Default: the experiment's, or default.")
]
ClusterKind = Annotated[Literal["kubernetes", "sandbox"] | None, typer.Option("--cluster", help="Default: kubernetes.")]
Kubeconfig = Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, ~/.kube/config, in-cluster.")]
Context = Annotated[str | None, typer.Option(help="The kubeconfig's context.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Random rounds, instead of the experiment's.")]
Duration = Annotated[str | None, typer.Option(help="Such as 10m: no round begins after it.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Repeats the decisions of a run.")]
LedgerUrl = Annotated[str | None, typer.Option("--ledger", help="SQLAlchemy URL. Default: SQLite in the out folder.")]
Out = Annotated[Path | None, typer.Option(help="Folder of reports and, by default, the ledger. Default: chaosd-out.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
SandboxDir = Annotated[Path | None, typer.Option(help="The sandbox's folder. Default: in the out folder.")]


@app.command(epilog=examples.told("run"))
def run(
    subject: Subject,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    rounds: Rounds = None,
    duration: Duration = None,
    seed: Seed = None,
    ledger: LedgerUrl = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
) -> int:
    """Write, disrupt, verify: run an experiment and judge."""
    from chaosd import commands
    from chaosd.progress import Progress

    settings = _settings(cluster, kubeconfig, context, ledger, out, sandbox_dir)
    chosen, manifest = _experiment(subject, namespace, rounds, duration, seed)
    progress = Progress()
    run_it = partial(commands.run_experiment, settings, chosen, manifest, watch=progress.watch)
    return _finish(settings, _run(run_it, progress))


@app.command(epilog=examples.told("plan"))
def plan(
    subject: Subject,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    seed: Seed = None,
    rounds: Rounds = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
    as_json: AsJson = False,
) -> int:
    """Show what a run would touch and decide; touches nothing."""
    from chaosd import commands
    from chaosd.report import outlook as plan_report

    settings = _settings(cluster, kubeconfig, context, None, out, sandbox_dir)
    chosen, manifest = _experiment(subject, namespace, rounds, None, seed)
    outlook = _run(lambda _: commands.plan_experiment(settings, chosen, manifest))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(outlook), indent=2))
    else:
        _print(plan_report.shown(outlook))
    return PASS


@app.command("preflight", epilog=examples.told("preflight"))
def run_preflight(
    subject: Subject,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    seed: Seed = None,
    rounds: Rounds = None,
    ledger: LedgerUrl = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
    as_json: AsJson = False,
) -> int:
    """Check whether anything stands in the way of a run, such as rights or room; ends with 2 if so. Writes nothing."""
    from chaosd import commands
    from chaosd.report import preflight as preflight_report

    settings = _settings(cluster, kubeconfig, context, ledger, out, sandbox_dir)
    chosen, manifest = _experiment(subject, namespace, rounds, None, seed)
    preflight = _run(lambda _: commands.preflight_experiment(settings, chosen, manifest))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(preflight), indent=2))
    else:
        _print(preflight_report.shown(preflight))
        typer.echo(preflight_report.closing(preflight))
    return USAGE if preflight.failed else PASS


@app.command(epilog=examples.told("verify"))
def verify(
    run_name: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Default: the latest, and older ones whose files stand there, too.",
            autocompletion=completion.runs,
        ),
    ] = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    ledger: LedgerUrl = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
) -> int:
    """Read back everything that a run is owed, and judge; puts right what a dead run left, disrupts nothing."""
    from chaosd import commands
    from chaosd.progress import Progress
    from chaosd.report import text

    settings = _settings(cluster, kubeconfig, context, ledger, out, sandbox_dir)
    progress = Progress()
    latest, *older = _run(partial(commands.verify_runs, settings, run_name, watch=progress.watch), progress)
    for finished in older:
        typer.echo(f"older run {finished.verdict.run}: {settings.out / finished.verdict.run / 'report.txt'}")
        typer.echo(text.summary(finished.verdict))
    codes = [_finish(settings, latest), *map(exit_code, older)]
    return min(codes, key=_WORST_FIRST.index)


@app.command(epilog=examples.told("undo"))
def undo(
    target: Annotated[
        str | None,
        typer.Argument(metavar="statefulset/NAME", help="Only of this one, even where it is gone, or its ledger."),
    ] = None,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    ledger: LedgerUrl = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
) -> int:
    """Put right what a dead run left, such as the count of replicas."""
    from chaosd import commands

    settings = _settings(cluster, kubeconfig, context, ledger, out, sandbox_dir)
    only = _target(target, namespace)
    for done in _run(lambda ending: commands.undo_runs(settings, only, ending)) or ["nothing to undo"]:
        typer.echo(done)
    return PASS


@app.command(epilog=examples.told("pause"))
def pause(
    subject: Pausable,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
) -> int:
    """Throw the kill switch: every chaosd ends what it does there, and undoes it."""
    settings = _settings(cluster, kubeconfig, context, None, out, sandbox_dir)
    return _throw_kill_switch(settings, subject, namespace, paused=True)


@app.command(epilog=examples.told("resume"))
def resume(
    subject: Pausable,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
) -> int:
    """Take the kill switch back, so that runs may begin there again."""
    settings = _settings(cluster, kubeconfig, context, None, out, sandbox_dir)
    return _throw_kill_switch(settings, subject, namespace, paused=False)


@app.command("drill", epilog=examples.told("drill"))
def run_drill(
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only faults of this class; may be repeated.", autocompletion=completion.classes),
    ] = None,
    seed: Seed = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How often each fault is planted.")] = 1,
    cluster: Annotated[
        Literal["kubernetes", "sandbox"],
        typer.Option(help="Simulated, or a real one, in a namespace made for it: faults that the probe can plant."),
    ] = "sandbox",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    image: Annotated[
        str | None, typer.Option(help="Of the real target's pods, with a shell. Default: busybox:stable.")
    ] = None,
    storage_class: Annotated[
        str | None, typer.Option(help="Of the real target's volumes. Default: the cluster's default.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the namespace.")] = False,
    as_json: AsJson = False,
) -> int:
    """Plant every fault, and show under which name each is found."""
    from chaosd.own_target import DEFAULT_IMAGE, Wanted

    first = seed if seed is not None else secrets.randbits(32)
    real = {"--kubeconfig": kubeconfig, "--context": context, "--image": image, "--storage-class": storage_class}
    if cluster == "kubernetes":
        settings = _settings(cluster, kubeconfig, context, None, None, None)
        wanted = Wanted("drill", image or DEFAULT_IMAGE, storage_class or "", keep)
        return _drill_really(settings, wanted, classes or [], first, count, as_json=as_json)
    if given := [name for name, value in (real | {"--keep": keep or None}).items() if value is not None]:
        raise UsageError(f"{given[0]} is of a real cluster: add --cluster kubernetes, or leave it out")
    return _drill_simulated(classes or [], first, count, as_json=as_json)


@app.command("gate", epilog=examples.told("gate"))
def run_gate(
    call: typer.Context,
    subject: Annotated[
        Path | None,
        typer.Argument(
            metavar="EXPERIMENT.yaml",
            help="With `require`: what must be covered.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    namespace: Namespace = None,
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    duration: Duration = None,
    seed: Seed = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="End with the round of the first violation.")] = False,
    storage_classes: Annotated[
        list[str] | None,
        typer.Option("--storage-class", help="Judge this class, on a target made for it and removed; may be repeated."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Of the pods of a target that is made, with a shell. Default: busybox:stable.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the targets that were made.")] = False,
    remote: Annotated[
        str | None, typer.Option(metavar="URL", help="Of a daemon that holds the gate: ask that, and run nothing.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the daemon's gate. Default: the only one.")] = None,
    max_age: Annotated[
        str | None, typer.Option("--max-age", help="How long ago its last run may have ended, such as 24h. Default: any.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until its last run is young enough, or, without --max-age, for a new one.")
    ] = False,
    timeout: Annotated[str | None, typer.Option(help="How long to --wait. Default: 6h.")] = None,
    ca_file: Annotated[Path | None, typer.Option("--ca-file", help="Certificates (PEM) that the daemon's is of.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="With a bearer token, for what stands before it.")
    ] = None,
    ledger: LedgerUrl = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
) -> int:
    """May this ship? Run until everything that is required was done, or ask a daemon, and end with 0 (yes), 1 (no) or 3
    (nobody knows)."""
    from chaosd import commands, gate
    from chaosd.own_target import DEFAULT_IMAGE, Wanted
    from chaosd.progress import Progress
    from chaosd.remote_gate import Remote
    from chaosd.requirements import drilled

    _refuse_mixture(call)
    if remote is not None:
        token = _token(token_file) if token_file else ""
        return _ask_remote(Remote(remote, name or "", max_age or "", token, ca_file), timeout, wait=wait)
    if subject is None:
        raise UsageError("no experiment is named: give its file, or ask a daemon with --remote")
    settings = _settings(cluster, kubeconfig, context, ledger, out, sandbox_dir)
    chosen, manifest = _experiment(str(subject), namespace, None, duration, seed)
    chosen = gate.fit(chosen, fail_fast=fail_fast)
    _refuse_of_own_target(settings, storage_classes, {"--image": image, "--keep": keep or None}, namespace, ledger)
    told = [drilled(_drilled([], secrets.randbits(32), 1))] if chosen.require and chosen.require.drill else []
    progress = Progress()
    if not storage_classes:
        run_it = partial(commands.run_experiment, settings, chosen, manifest, watch=progress.watch, told=told)
        return _finish(settings, _run(run_it, progress))
    wanted = [Wanted(gate.NAME, image or DEFAULT_IMAGE, name, keep, gate.REPLICAS) for name in storage_classes]
    tell = partial(progress.tell, "gate")
    held = _run(lambda ending: gate.hold_each(settings, chosen, wanted, ending, told, progress.watch, tell), progress)
    for one, finished in held:
        typer.echo(f"storage class {one.storage_class}:")
        _finish(settings.model_copy(update={"out": settings.out / one.storage_class}), finished)
    return min([exit_code(finished) for _, finished in held], key=_WORST_FIRST.index)


@app.command("daemon", epilog=examples.told("daemon"))
def run_daemon(
    experiments: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|EXPERIMENT.yaml",
            help="Experiments, read anew when they change.",
            autocompletion=completion.experiments,
        ),
    ],
    cluster: ClusterKind = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    ledger: LedgerUrl = None,
    out: Out = None,
    sandbox_dir: SandboxDir = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT. Default: 127.0.0.1:9187.")] = None,
) -> int:
    """Run experiments on their schedules, or for ever, and serve what is found: a status page on /, and /metrics."""
    from chaosd import daemon

    settings = _settings(cluster, kubeconfig, context, ledger, out, sandbox_dir, listen)
    codes = [exit_code(finished) for finished in _run(lambda ending: daemon.serve(settings, experiments, ending))]
    return min([*codes, ABORTED], key=_WORST_FIRST.index)


@app.command(epilog=examples.told("shutdown"))
def shutdown(
    experiments: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|EXPERIMENT.yaml", help="Those of the daemon.", autocompletion=completion.experiments
        ),
    ],
    deployment: Annotated[
        str | None, typer.Option(help="Of the daemon: scaled to 0 and waited for before its targets are healed.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of that Deployment.")] = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> int:
    """End a daemon for good, and put right what it left, as its targets' Leases say: its ledger is not needed."""
    from chaosd.daemon.shutdown import shut_down

    settings = _settings(None, kubeconfig, context, None, None, None)
    done = _run(lambda ending: shut_down(settings, experiments, deployment, namespace, ending))
    for told in done or ["nothing to undo"]:
        typer.echo(told)
    return PASS


RunName = Annotated[
    str,
    typer.Argument(metavar="RUN|latest", help="A run's name, as chaosd history tells it.", autocompletion=completion.runs),
]


@app.command(epilog=examples.told("history"))
def history(
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    ledger: LedgerUrl = None,
    out: Out = None,
    as_json: AsJson = False,
) -> int:
    """List the runs of a ledger, the newest first; of a running daemon's, too."""
    from chaosd import reporting
    from chaosd.report import runs

    settings = _settings(None, None, None, ledger, out, None)
    listed = reporting.list_runs(settings, limit)
    if as_json:
        typer.echo(json.dumps(runs.as_json(listed), indent=2))
    else:
        _print(runs.table(listed))
    return PASS


@app.command(epilog=examples.told("show"))
def show(run_name: RunName = LATEST, ledger: LedgerUrl = None, out: Out = None, as_json: AsJson = False) -> int:
    """Show what came of one run, as in its report.txt; of one that is still running, so far."""
    from chaosd import reporting
    from chaosd.report import text

    settings = _settings(None, None, None, ledger, out, None)
    standing, verdict = reporting.look_at(settings, run_name)
    if as_json:
        typer.echo(verdict.as_json(), nl=False)
        return PASS
    if standing.told:
        typer.echo(f"{standing.told}\n")
    typer.echo(text.render(verdict), nl=False)
    return PASS


@app.command("report", epilog=examples.told("report"))
def make_report(
    run_name: RunName = LATEST,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help=f"One or more, parted by commas: {', '.join(FILES)}.",
            autocompletion=completion.formats,
        ),
    ] = "html",
    ledger: LedgerUrl = None,
    out: Out = None,
) -> int:
    """Tell what came of a run, finished or running, from its ledger: a page for people, and files for machines."""
    from chaosd import reporting
    from chaosd.report import text

    settings = _settings(None, None, None, ledger, out, None)
    wanted = [name.strip() for name in formats.split(",")]
    if unknown := [name for name in wanted if name not in FILES]:
        raise UsageError(f"--format {unknown[0]}: there are {', '.join(FILES)}")
    report, written = reporting.report(settings, run_name, wanted)
    for file in written:
        typer.echo(f"report: {file}")
    if report.state_told:
        _tell(report.state_told)
    typer.echo(text.summary(report.verdict))
    return PASS


@app.command("diff", epilog=examples.told("diff"))
def compare_runs(
    one: Annotated[
        str, typer.Argument(metavar="RUN_A", help="Such as one of the old driver.", autocompletion=completion.runs)
    ],
    other: Annotated[str, typer.Argument(metavar="RUN_B", help="Such as one of the new.", autocompletion=completion.runs)],
    ledger: LedgerUrl = None,
    out: Out = None,
    as_json: AsJson = False,
) -> int:
    """Compare two runs: verdicts, classes, coverage, and whether recovery takes longer, beyond chance."""
    from chaosd import reporting
    from chaosd.report import diff_table

    compared = reporting.compare(_settings(None, None, None, ledger, out, None), one, other)
    if as_json:
        typer.echo(json.dumps(compared.as_json(), indent=2))
    else:
        _print(diff_table.shown(compared))
    return PASS


@app.command("disruptions", epilog=examples.told("disruptions"))
def list_disruptions(
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As docs/disruptions.md.")] = False,
    as_rules: Annotated[bool, typer.Option("--rules", help="Rights alone, as rules of Roles, for the chart.")] = False,
) -> int:
    """List what can be done to a target: parameters, rights, and what each finds."""
    from chaosd.report import disruptions

    if as_json + as_markdown + as_rules > 1:
        raise UsageError("--json, --markdown and --rules are ways to tell it: give one of them")
    if as_json:
        typer.echo(disruptions.as_json())
    elif as_markdown:
        typer.echo(disruptions.markdown(), nl=False)
    elif as_rules:
        typer.echo(disruptions.rules(), nl=False)
    else:
        _print(disruptions.table())
    return PASS


@app.command(epilog=examples.told("schema"))
def schema(
    of: Annotated[
        Literal["experiment", "verdict", "report", "gate", "api"], typer.Argument(help="Which document's.")
    ] = "experiment",
) -> int:
    """Print the JSON Schema of an experiment, of verdict.json, of report.json, or of what a daemon's API says of a gate; or
    that API's OpenAPI document."""
    from pydantic import BaseModel

    from chaosd import experiment
    from chaosd.report.document import Report
    from chaosd.report.gate import GateStatus
    from chaosd.report.verdict import Verdict

    if of == "experiment":
        typer.echo(experiment.schema(), nl=False)
    elif of == "api":
        from chaosd import openapi  # which needs the web server's library

        typer.echo(openapi.document(), nl=False)
    else:
        models: dict[str, type[BaseModel]] = {"verdict": Verdict, "report": Report, "gate": GateStatus}
        typer.echo(json.dumps(models[of].model_json_schema(by_alias=True, mode="serialization"), indent=2))
    return PASS


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Chaos and durability testing for Kubernetes StatefulSets."""
    if version:
        typer.echo(f"chaosd {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command and exit: the only place that does."""
    try:
        code = app(standalone_mode=False)
    except ChaosdError as error:
        _tell(str(error))
        code = error.exit_code
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.Abort:
        code = ABORTED
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors; their type is typer's own and changes with it
            code = USAGE
            context = getattr(error, "ctx", None)
            mend = f" See {context.command_path} --help" if context else ""
            _tell(f"{error.format_message().replace('Value error, ', '')}{mend}")
        else:  # never 1: a fault of chaosd's own breaks no promise of the storage
            code = INCONCLUSIVE
            traceback.print_exc()
            _tell(f"a fault of chaosd itself: {error!r}: please report it with the lines above")
    sys.exit(code)


def _tell(error: str) -> None:
    """One line, whatever a server or a library put into it."""
    if error:
        sys.stderr.write(f"chaosd: {' '.join(error.split())}\n")


def _settings(
    cluster: str | None,
    kubeconfig: Path | None,
    context: str | None,
    ledger: str | None,
    out: Path | None,
    sandbox_dir: Path | None,
    listen: str | None = None,
) -> Settings:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from chaosd.settings import Settings

    given: dict[str, Any] = {
        "cluster": cluster,
        "kubeconfig": kubeconfig,
        "context": context,
        "ledger": ledger,
        "out": out,
        "sandbox_dir": sandbox_dir,
        "listen": listen,
    }
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"settings: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except SettingsError as error:
        raise UsageError(f"settings: {error}: write JSON") from error


def _experiment(
    subject: str, namespace: str | None, rounds: int | None, duration: str | None, seed: int | None
) -> tuple[Experiment, Path | None]:
    """The experiment with the options laid over it, and the manifest for an empty sandbox."""
    from chaosd import experiment

    kind, name = _object(subject)
    if kind == "statefulset" and name:
        chosen, manifest = experiment.default_for(name), None
    elif kind and "/" in subject:
        raise UsageError(f"{subject} is no StatefulSet: name one as statefulset/NAME")
    else:
        path = Path(subject)
        if "/" not in subject and not path.suffix and not path.exists():
            raise UsageError(
                f"{subject} is no file: name an experiment, such as experiments/soak.yaml, or a target, as "
                f"statefulset/{'NAME' if subject in _KINDS else subject}"
            )
        chosen = experiment.load(path)
        manifest = path.parent / chosen.target.manifest
    over: dict[str, Any] = {"rounds": rounds, "duration": duration, "seed": seed}
    given = {name: value for name, value in over.items() if value is not None}
    if chosen.steps and (rounds is not None or duration is not None):
        raise ExperimentError(f"{subject} is a script: it takes no --rounds and no --duration")
    if namespace is not None:
        given["target"] = chosen.target.model_copy(update={"namespace": namespace}).model_dump(by_alias=True)
    return experiment.overlay(chosen, given), manifest


def _target(subject: str | None, namespace: str | None) -> str | None:
    """NAMESPACE/STATEFULSET."""
    if subject is None:
        if namespace is not None:
            raise UsageError("--namespace is of a target: name that, too, as statefulset/NAME, or leave it out")
        return None
    kind, name = _object(subject)
    if kind != "statefulset" or not name:
        raise UsageError(f"{subject} is no target: name it as statefulset/NAME")
    return f"{namespace or 'default'}/{name}"


def _object(subject: str) -> tuple[str, str]:
    """Kind and name of what KIND/NAME names; the kind is empty where it is none that chaosd knows."""
    kind, _, name = subject.partition("/")
    return _KINDS.get(kind, ""), name


def _run(work: Callable[[Ending], Coroutine[Any, Any, Result]], progress: Progress | None = None) -> Result:
    """Run it, and let SIGINT, SIGTERM and SIGHUP end it: the first heals and judges, a second one ends the process. With
    `progress`, it is shown meanwhile."""
    from chaosd.run import Ending

    async def with_signals() -> Result:
        ending, loop = Ending(), asyncio.get_running_loop()

        def end(number: signal.Signals) -> None:
            ending.because(f"ended by {number.name}")
            for one in _ENDING_SIGNALS:
                loop.remove_signal_handler(one)

        for number in _ENDING_SIGNALS:
            loop.add_signal_handler(number, end, number)
        return await (progress.beside(work(ending)) if progress else work(ending))

    return asyncio.run(with_signals())


def _throw_kill_switch(settings: Settings, subject: str, namespace: str | None, *, paused: bool) -> int:
    from chaosd import commands

    kind, name = _object(subject)
    if not kind or not name:
        raise UsageError(f"{subject} cannot be paused: name statefulset/NAME or namespace/NAME")
    if kind == "namespace" and namespace:
        raise UsageError(f"{subject} is a namespace itself: leave --namespace out")
    in_namespace = namespace or "default"
    typer.echo(_run(lambda _: commands.throw_kill_switch(settings, kind, name, in_namespace, paused=paused)))
    return PASS


def _refuse_of_own_target(
    settings: Settings,
    storage_classes: Sequence[str] | None,
    of_it: dict[str, Any],
    namespace: str | None,
    ledger: str | None,
) -> None:
    """Options that are of a target that a gate makes, and those that are not. Raises UsageError."""
    if not storage_classes and (given := [name for name, value in of_it.items() if value is not None]):
        raise UsageError(f"{given[0]} is of a target that is made: name its --storage-class, or leave it out")
    if storage_classes and settings.cluster == "sandbox":
        raise UsageError("--storage-class makes a target on a real cluster: leave out --cluster sandbox, or this")
    if storage_classes and (namespace or ledger):
        raise UsageError("--storage-class makes a namespace and a ledger of its own: leave out --namespace and --ledger")


def _refuse_mixture(call: typer.Context) -> None:
    """A gate is either asked of a daemon or run here. Raises UsageError."""
    sources = {p: call.get_parameter_source(p.name or "") for p in call.command.params}
    given = [p for p, source in sources.items() if source and source.name == "COMMANDLINE"]
    named = {p.name: p.opts[0] if p.opts[0].startswith("-") else "the experiment" for p in given}
    remote, here = ([said for name, said in named.items() if (name in _OF_REMOTE) is which] for which in (True, False))
    if "remote" not in named:
        if remote:
            raise UsageError(f"{remote[0]} is of a daemon that is asked: name that with --remote, or leave it out")
    elif here:
        raise UsageError(f"--remote asks a daemon, and runs nothing: leave out {', '.join(here)}")


def _ask_remote(remote: Remote, timeout: str | None, *, wait: bool) -> int:
    from chaosd import remote_gate
    from chaosd.progress import Progress
    from chaosd.report import gate as gate_report

    if timeout is not None and not wait:
        raise UsageError("--timeout is how long to wait: add --wait, or leave it out")
    if remote.max_age:
        _seconds("--max-age", remote.max_age)
    seconds = _seconds("--timeout", timeout or _REMOTE_TIMEOUT) if wait else None
    progress = Progress()
    found = _run(lambda ending: remote_gate.ask(remote, ending, partial(progress.tell, "gate"), seconds))
    typer.echo(gate_report.summary(found))
    return found.exit_code


def _seconds(option: str, given: str) -> float:
    from chaosd.quantities import parse_seconds

    try:
        return parse_seconds(given)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def _token(file: Path) -> str:
    """Raises UsageError."""
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {file} cannot be read: {error}: name a file of text") from error
    if not token.isascii() or not token.isprintable() or not token:
        raise UsageError(f"--token-file {file} holds no token: write one into it, in a line")
    return token


def _drilled(classes: Sequence[str], seed: int, count: int) -> Sequence[Drilled]:
    from chaosd.drill import simulated
    from chaosd.drill.progress import status

    chosen = simulated.chosen(classes)
    with status(sys.stderr) as shown:
        return simulated.drill(chosen, seed, count, lambda done: shown.update(f"drill: {done.plant}") if shown else None)


def _drill_simulated(classes: Sequence[str], seed: int, count: int, *, as_json: bool) -> int:
    from chaosd.drill import simulated, table

    results = _drilled(classes, seed, count)
    typer.echo(table.as_json(results) if as_json else table.table(results, simulated.WHERE, width=_terminal_width()))
    return _drill_code(results)


def _drill_really(
    settings: Settings, wanted: Wanted, classes: Sequence[str], seed: int, count: int, *, as_json: bool
) -> int:
    from chaosd.drill import on_cluster, plants, table
    from chaosd.drill.progress import DrillProgress

    chosen = table.chosen(plants.PLANTS, classes, "on a real cluster")
    absent = [] if classes else table.not_planted(chosen)
    progress = DrillProgress(sys.stderr, len(chosen) * count)
    try:
        with progress.shown():
            _run(lambda ending: on_cluster.drill_in_own_target(settings, wanted, chosen, seed, count, ending, progress))
    finally:
        if as_json:
            typer.echo(table.as_json(progress.results))
        elif progress.results:  # what was found before an error, too
            where = f"{on_cluster.WHERE}{progress.ended_early()}"
            typer.echo(table.table(progress.results, where, absent, _terminal_width()))
    return _drill_code(progress.results)


def _print(shown: RenderableType) -> None:
    from rich.console import Console

    Console(width=_terminal_width() or _PIPED_COLUMNS).print(shown)


def _terminal_width() -> int | None:
    """Columns of the terminal that is written to, None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _drill_code(results: Sequence[Drilled]) -> int:
    if all(result.right for result in results):
        return PASS
    return INCONCLUSIVE if all(result.right or result.undecided for result in results) else VIOLATED


def _finish(settings: Settings, finished: Finished) -> int:
    from chaosd.report import text

    if finished.error:
        _tell(str(finished.error))
    typer.echo(f"report: {settings.out / 'report.txt'}")
    typer.echo(text.summary(finished.verdict))
    return exit_code(finished)


def exit_code(finished: Finished) -> int:
    """What a finished run ends with."""
    from chaosd.checkers import Value

    if isinstance(finished.error, UsageError):
        return USAGE
    if finished.verdict.verdict is Value.FAIL:
        return VIOLATED
    if isinstance(finished.error, AbortedError):
        return ABORTED
    return PASS if finished.verdict.verdict is Value.PASS else INCONCLUSIVE
