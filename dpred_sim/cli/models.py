"""`dpred-sim models`: the trained networks that there are, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dpred_sim.workload.fetch import Observer, Source
    from dpred_sim.workload.packages import Package, Watch
    from dpred_sim.workload.trained.manifest import Manifest

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]

ALL = "all"


def add_to(app: typer.Typer) -> None:
    """Register `models list` and `models fetch`."""
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example:  dpred-sim models list")(list_models)
    group.command("fetch", epilog="Example:  dpred-sim models fetch resnet50_thin silero_vad")(fetch_models)
    app.add_typer(
        group,
        name="models",
        help="List the trained networks, or fetch them into the cache.",
        epilog="Example:  dpred-sim models list",
    )


def list_models(as_json: AsJson = False) -> None:
    """List the trained networks: layers, size, licences, and whether the cache has them."""
    from dpred_sim.workload.trained.manifest import shipped

    manifest = shipped()
    rows = [describe(manifest, name) for name in manifest.names]
    if as_json:
        _print_json({"models": rows})
        return
    from dpred_sim.observe.tables import Column, text_table

    heads = ("model", "network", "layers", "size", "package", "licence", "note", "here")
    columns = [Column(head, left=head not in ("layers", "size")) for head in heads]
    print("\n".join(text_table(columns, [_cells(row) for row in rows])))


def describe(manifest: Manifest, name: str) -> dict[str, Any]:
    """What the manifest says of a model, and whether the cache has it; JSON-ready."""
    from dpred_sim.workload.fetch import is_fetched

    entry = manifest.model(name)
    package = manifest.packages[entry.package]
    return {
        "name": name,
        "network": entry.network,
        "layers": entry.layers,
        "size_bytes": entry.size,
        "download_bytes": package.size,
        "registry": package.registry,
        "package": entry.package,
        "version": package.version,
        "loader": entry.loader,
        "package_licence": package.licence,
        "weights_licence": entry.weights_licence,
        "note": entry.note,
        "files": [{"member": file.member, "sha256": file.sha256} for file in entry.files],
        "inputs": list(entry.inputs),
        "cached": is_fetched(manifest.model_sources(name)),
        "inputs_cached": is_fetched(manifest.sources(name)),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["network"],
        str(row["layers"]),
        f"{row['size_bytes'] / 1e6:.1f} MB",
        f"{row['package']} {row['version']}",
        row["weights_licence"],
        row["note"],
        "yes" if row["cached"] else "no",
    ]


def fetch_models(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models of `models list`, or `all`.")],
    as_json: AsJson = False,
) -> None:
    """Fetch trained networks and their inputs into the cache; what is there is left alone.

    Packages are downloaded by pip and npm, and never installed: one file is taken out and checked.
    """
    from dpred_sim.workload.fetch import fetch, is_fetched
    from dpred_sim.workload.packages import Unavailable
    from dpred_sim.workload.trained.manifest import shipped

    manifest = shipped()
    wanted = manifest.names if ALL in names else list(dict.fromkeys(names))
    for name in wanted:
        manifest.model(name)
    before = {name: is_fetched(manifest.sources(name)) for name in wanted}
    packages: dict[Package, list[Source]] = {}
    for source in dict.fromkeys(source for name in wanted for source in manifest.sources(name)):
        packages.setdefault(source.package, []).append(source)
    failed: dict[Package, Unavailable] = {}
    with _bars() as observer:
        for package, sources in packages.items():
            try:
                fetch(sources, observer)
            except Unavailable as error:
                failed[package] = error
    without = [n for n in wanted if any(source.package in failed for source in manifest.sources(n))]
    rows = [{"name": name, "was_cached": before[name]} for name in wanted if name not in without]
    if as_json:
        _print_json({"fetched": rows})
    else:
        print(
            "".join(f"{r['name']}: {'already here' if r['was_cached'] else 'fetched'}\n" for r in rows),
            end="",
        )
    if failed:
        raise Unavailable(
            "; ".join(error.message for error in failed.values()),
            field="models" if len(wanted) > 1 else None,
            found=f"{len(without)} of {len(wanted)} not complete: {', '.join(without)}"
            if len(wanted) > 1
            else None,
        )


def _bars() -> AbstractContextManager[Observer]:
    """Progress bars on stderr, one a package; a line each where stderr is no terminal."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)

    @contextmanager
    def bars() -> Any:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task: Any = None

            def observer(package: Package) -> Watch:
                nonlocal task
                if task is not None:
                    progress.update(task, completed=progress.tasks[task].total)
                task = progress.add_task(str(package), total=package.size or None)
                if not console.is_terminal:
                    console.print(f"fetching {package}", highlight=False)
                mine = task
                return lambda done: progress.update(mine, completed=min(done, package.size))

            yield observer
            if task is not None:
                progress.update(task, completed=progress.tasks[task].total)

    return bars()


def _print_json(document: dict[str, Any]) -> None:
    import json

    print(json.dumps(document, indent=2))
