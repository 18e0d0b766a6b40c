"""``forethought why``: ask a running server why a request was answered the way it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from forethought.router.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from forethought.client import Decision, ExplainedCandidate, Explanation

PLAIN_WIDTH: Final = 110
"""Columns where the output goes to a file: the table fits."""

_TITLES: Final = {
    "forecasts": "What was foreseen",
    "own answers": "What your own answers say",
    "changes": "What would change it",
    "features": "What mattered",
    "missing": "Not known",
}


def why(
    decision_id: Annotated[
        str, typer.Argument(help="From the header x-forethought-decision of a reply.")
    ],
    base_url: Annotated[
        str | None,
        typer.Option(
            help="The server (default FORETHOUGHT_BASE_URL, else http://127.0.0.1:8300/v1). Its "
            "key is read from FORETHOUGHT_API_KEY."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the decision as one JSON object.")
    ] = False,
) -> None:
    """Say why a request was answered the way it was, and what would change it."""
    decision = _asked(decision_id, base_url)
    if as_json:
        typer.echo(decision.model_dump_json())
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    print_decision(decision, console)


def print_decision(decision: Decision, console: Console) -> None:
    """Print a decision: the choice, the candidates, and what mattered."""
    console.print(
        f"[bold]{decision.id}[/] {decision.strategy} ({decision.mode}), {decision.model}, "
        f"policy {decision.policy_version}"
    )
    outcome = decision.outcome
    if outcome is not None and outcome.model is not None:
        said = f"{outcome.model} was asked in the end ({outcome.error})."
        console.print(said, markup=False)
    explanation = decision.explanation
    if explanation is None:
        console.print(decision.reason, markup=False)
        return
    for line in explanation.text.get("choice", ()):
        console.print(line, markup=False)
    console.print(candidates_table(explanation))
    for candidate in explanation.candidates:
        _print_indented(f"{candidate.strategy}: {candidate.verdict}", console)
    for subject, title in _TITLES.items():
        lines = explanation.text.get(subject, ())
        if lines:
            console.print(f"\n[bold]{title}[/]")
        for line in lines:
            _print_indented(line, console)


def _print_indented(line: str, console: Console) -> None:
    console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))


def candidates_table(explanation: Explanation) -> Table:
    """What was foreseen of each candidate; the chosen one in bold.

    In brackets: what nine answers in ten stay below.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    for column in ("right", "90% interval", "output tokens", "USD", "latency", "propensity"):
        table.add_column(column, justify="right")
    for candidate in explanation.candidates:
        chosen = candidate.strategy == explanation.strategy
        table.add_row(*_cells(candidate), style="bold" if chosen else "")
    return table


def _cells(candidate: ExplainedCandidate) -> tuple[str, ...]:
    low, high = candidate.quality_low, candidate.quality_high
    return (
        candidate.strategy,
        "" if candidate.quality is None else f"{candidate.quality:.1%}",
        "" if low is None else f"{low:.1%} to {'?' if high is None else format(high, '.1%')}",
        _with_p90(candidate.output_tokens, candidate.output_tokens_p90, ".0f"),
        "" if candidate.cost_usd is None else f"{candidate.cost_usd:.7f}",
        _with_p90(candidate.latency_ms, candidate.latency_ms_p90, ".2f", scale=1000, unit=" s"),
        f"{candidate.propensity:.3f}",
    )


def _with_p90(
    mean: float | None, p90: float | None, form: str, *, scale: float = 1, unit: str = ""
) -> str:
    if mean is None:
        return ""
    most = "" if p90 is None else f" (< {p90 / scale:{form}})"
    return f"{mean / scale:{form}}{most}{unit}"


def _asked(decision_id: str, base_url: str | None) -> Decision:
    # The SDK takes a second to load; listing the commands does not need it.
    import openai  # noqa: PLC0415

    from forethought.client import Forethought  # noqa: PLC0415

    with Forethought() if base_url is None else Forethought(base_url=base_url) as client:
        try:
            return client.decisions.retrieve(decision_id)
        except openai.NotFoundError as error:
            raise NotFound(f"There is no decision {decision_id!r}.", param="decision_id") from error
        except openai.APIConnectionError as error:
            raise ConfigError(
                f"No server answers at {client.base_url}.",
                param="base_url",
                remedy="Start one with `forethought serve`, or name it with --base-url.",
            ) from error
        except openai.APIError as error:
            raise ConfigError(f"The server says: {error.message}", param="base_url") from error
