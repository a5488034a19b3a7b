"""The command line of the measurements: `python -m bench [NAME...]`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import consul, envoy, fanout, istio, latency, memory, mixed, silent, sync
from bench.measure import Row
from bench.report import machine, table
from bench.setting import FULL, QUICK, TINY, Setting

WIDTH = 150
"""Columns of the table where nothing says that there are fewer."""
BENCHMARKS: dict[str, Callable[[Setting], list[Row]]] = {
    "sync": sync.run,
    "latency": latency.run,
    "memory": memory.run,
    "fanout": fanout.run,
    "silent": silent.run,
    "consul": consul.run,
    "istio": istio.run,
    "envoy": envoy.run,
    "mixed": mixed.run,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", "sizes", flag_value=QUICK, help="Small sizes: less than a minute, rough numbers.")
@click.option("--tiny", "sizes", flag_value=TINY, help="Sizes that measure nothing: does it run at all?")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--profile",
    type=click.Path(file_okay=False, path_type=Path),
    help="Profile every process into this folder; its numbers are worth nothing then.",
)
def main(names: tuple[str, ...], sizes: object, as_json: bool, profile: Path | None) -> None:
    """Measure the agent beside the bare transport. Without NAMES: everything."""
    chosen = sizes if sizes in (QUICK, TINY) else FULL
    console = Console(stderr=True)
    rows: list[Row] = []
    if profile is not None:
        profile.mkdir(parents=True, exist_ok=True)
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="hamlet-bench-") as folder,
        # Few refreshes: the cores belong to what is measured.
        Progress(*columns, console=console, refresh_per_second=1, transient=True) as progress,
    ):
        for name in names or tuple(BENCHMARKS):
            task = progress.add_task(name)

            def step(text: str, name: str = name, task: object = task) -> None:
                progress.update(task, description=f"{name}: {text}")  # type: ignore[arg-type]
                if not console.is_terminal:
                    console.print(f"{name}: {text}", highlight=False)

            rows += BENCHMARKS[name](Setting(root=Path(folder) / name, sizes=chosen, step=step, profile=profile))
            progress.update(task, description=f"{name}: done", completed=1, total=1)
    if as_json:
        document = {
            "machine": machine(),
            "seconds": round(time.monotonic() - began, 1),
            "rows": [row.document() for row in rows],
        }
        click.echo(json.dumps(document, indent=2))
    else:
        out = Console()
        if not out.is_terminal:
            out.width = WIDTH
        out.print(table(rows))


if __name__ == "__main__":
    main()
