"""The command line: ``forethought serve``, ``models``, ``demo``, ``train`` and the rest.

Commands are loaded when they are called for, so that serving never loads what training needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from forethought.models.errors import ForethoughtError

EXIT_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130
"""What a shell reports for Ctrl-C."""

ENTRY_POINTS: Final = "forethought.commands"
"""Packages above this one hang their commands in here; training does."""

_OWN: Final = {
    "serve": "forethought.api.commands.serve:serve",
    "demo": "forethought.api.demo.command:command",
    "models": "forethought.api.commands.models:app",
    "why": "forethought.api.commands.why:why",
}


class _LazyGroup(TyperGroup):
    """Finds commands by name and loads them on first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_OWN, *sorted(_others()), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        load = _own_loader(cmd_name) or _others().get(cmd_name)
        if load is None:
            return super().get_command(ctx, cmd_name)
        command = _as_command(cmd_name, load())
        self.commands[cmd_name] = command
        return command


app = typer.Typer(
    name="forethought",
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Think about a context before the question comes, and only where it pays.",
)


def _version(asked: bool) -> None:
    if asked:
        show_version()
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Think about a context before the question comes, and only where it pays."""


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("forethought"))


def main() -> None:
    """Run the command line. An error of ours is one line on standard error, exit status 2."""
    try:
        app()
    except ForethoughtError as error:
        typer.echo(" ".join(f"forethought: {error}".split()), err=True)
        raise SystemExit(EXIT_ERROR) from error
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _own_loader(name: str) -> Callable[[], Any] | None:
    if name not in _OWN:
        return None
    module, _, attribute = _OWN[name].partition(":")
    return lambda: getattr(importlib.import_module(module), attribute)


def _others() -> dict[str, Callable[[], Any]]:
    return {entry.name: entry.load for entry in entry_points(group=ENTRY_POINTS)}


def _as_command(name: str, loaded: Any) -> Any:
    if isinstance(loaded, typer.Typer):
        return typer.main.get_command(loaded)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(loaded)
    return typer.main.get_command(single)


if __name__ == "__main__":
    main()
