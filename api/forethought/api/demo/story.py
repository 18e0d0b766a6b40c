"""The demo's story: ask, sleep, ask again, let the router choose, learn, swap the policy.

Everything goes over HTTP to a real server in a process of its own, and every figure it
prints was measured in this run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from forethought.api.demo import report, sample, words
from forethought.api.demo.asking import Ask, Asking, Tick
from forethought.api.demo.figures import Answer, told_apart
from forethought.api.demo.learning import promote, train, training_lines
from forethought.api.demo.machine import machine, priced
from forethought.api.demo.measured import Measured
from forethought.api.demo.sample import DATASETS, FAIRYTALEQA, GSM8K, Share
from forethought.api.demo.server import Served
from forethought.client import Context, LearnedContext
from forethought.router import catalogue
from forethought.router.pricing import PriceTable

PATIENCE_S: Final = 210.0
"""After so long, on a slower machine, what the demo can do without is left out."""

SWAP_TIMEOUT_S: Final = 20.0


class Story:
    """The chapters, in order; what they find is in ``measured``."""

    def __init__(
        self,
        asking: Asking,
        console: Console,
        *,
        served: Served,
        sizes: Mapping[str, Share],
        seed: int,
    ) -> None:
        self.measured = Measured(model=asking.model)
        self._asking = asking
        self._console = console
        self._served = served
        self._sizes = sizes
        self._seed = seed
        self._began = time.monotonic()
        self._chosen = sample.choose(self._sizes, seed=seed)
        self._learned: dict[str, LearnedContext] = {}

    def tell(self) -> None:
        """All chapters that need the server."""
        self.introduce()
        contexts = self.before_sleep()
        self.plan(contexts)
        self.sleep(contexts)
        self.after_sleep()
        self.router_alone()
        self.learn()
        self.measured.seconds = time.monotonic() - self._began

    def introduce(self) -> None:
        """Say what runs where, and what it is taken to cost."""
        say, model = self._console.print, self.measured.model
        prices = PriceTable().lookup(model, self._served.base_url)
        upstream = self._served.base_url or "embedded, in a process of its own"
        say(f"[bold]Forethought demo[/] at {self._asking.client.base_url}", highlight=False)
        say(f"  model    {escape(model)} ({escape(upstream)})", highlight=False)
        say(f"  machine  {escape(machine())}", highlight=False)
        say(f"  prices   {priced(prices)}", highlight=False)
        known = None if self._served.base_url else catalogue.MODELS.get(model)
        if known is not None:
            minutes = (
                sample.estimated_seconds(
                    self._sizes,
                    prefill_tokens_per_s=known.prefill_tokens_per_s,
                    decode_tokens_per_s=known.decode_tokens_per_s,
                )
                / 60
            )
            say(f"  takes    about {minutes:.1f} minutes on 2 cores", highlight=False)

    def before_sleep(self) -> dict[str, Context]:
        """Register the contexts and ask the first queries, as without Forethought."""
        self._chapter("1. First queries: nobody has slept yet")
        contexts = self._asking.register(self._chosen)
        # The cheap strategy goes first and pays for reading the context: if the order favours
        # any, it favours direct, against which sleep is to be measured.
        for strategy in ("effort:low", "direct"):
            self._ask(strategy, self._asked(strategy))
        return contexts

    def plan(self, contexts: dict[str, Context]) -> None:
        """Show what the router makes of each context, and of many more it never saw."""
        self._chapter("2. What the router makes of these contexts")
        self.measured.plans = self._asking.plans(contexts)
        self._console.print(report.plans_table(self._chosen, self.measured.plans))
        for dataset in self._sizes:
            self._console.print(self._planned(dataset), highlight=False)
        further = sample.others(self._chosen)
        unseen = self._asking.plans(self._asking.register(further))
        kinds = {c.id: c.dataset for c in (*self._chosen, *further)}
        values: dict[str, list[float]] = {GSM8K: [], FAIRYTALEQA: []}
        for name, plan in {**self.measured.plans, **unseen}.items():
            if plan.get("saving_per_query_usd") is not None:
                values[kinds[name]].append(plan["saving_per_query_usd"])
        apart = self.measured.told_apart = told_apart(values, GSM8K, FAIRYTALEQA)
        if apart is not None:
            self._console.print(words.apart_line(values, apart), highlight=False)

    def sleep(self, contexts: dict[str, Context]) -> None:
        """Sleep on the contexts, the plans notwithstanding, to measure it on both kinds."""
        self._chapter("3. Sleep: think before the next query comes")
        if not all(plan.get("buy") for plan in self.measured.plans.values()):
            self._console.print(
                "Here sleep is asked for on all contexts, also where the plan would not buy it, to "
                "measure both kinds."
            )
        with self._progress("sleeping", len(self._chosen)) as tick:
            slept = self._asking.sleep(self._chosen, contexts, tick=tick)
        self.measured.sleeps = sorted(
            (sleep for sleep, _ in slept), key=lambda s: DATASETS.index(s.dataset)
        )
        self._learned = {sleep.context: learned for sleep, learned in slept}
        shown = next((c for c in self._chosen if self._learned[c.id].notes), self._chosen[0])
        self._console.print(f"What was learned about {shown.id}:")
        for line in words.learned_lines(shown, self._learned[shown.id]):
            self._console.print(line, highlight=False)

    def after_sleep(self) -> None:
        """Ask the same queries from the notes."""
        self._chapter("4. The same queries, from the notes")
        empty = [c.id for c in self._chosen if not self._learned[c.id].notes]
        if empty:
            self._console.print(f"Without notes, so left out: {', '.join(empty)}.")
        self._ask("learned:low", self._asked("learned:low", leave_out=empty))
        if not self._late("learned:high"):
            self._ask("learned:high", self._thought(leave_out=empty))

    def router_alone(self) -> None:
        """Leave the choice to the router: further queries, some on contexts without sleep."""
        self._chapter("5. The router on its own, on further queries")
        asks = [
            Ask(context=c, question=q, strategy=None, phase="routed")
            for c in self._chosen
            for q in sample.routed(c, self._sizes[c.dataset])
        ]
        if self._late("all but one of them on each kind", after_s=2 * PATIENCE_S):
            asks = list({ask.context.dataset: ask for ask in asks}.values())
        elif not self._late("what was not slept on"):  # its answers may be long
            asks += [
                Ask(context=c, question=q, strategy=None, phase="routed")
                for c, q in sample.fresh(self._chosen, self._sizes)
            ]
        found = self._ask("the router", asks)
        self._console.print(report.routed_table(found))
        if found:
            chosen = next((a for a in found if a.strategy.startswith("learned")), found[0])
            self.measured.explained = self._asking.decision(chosen.decision_id)

    def learn(self) -> None:
        """Train on the log, pass the gate, and have the running server take the new policy."""
        self._chapter("6. Learn from the log, and swap the policy in")
        judged = len(self.measured.answers)
        self._console.print(f"Each of the {judged} answers was graded, and its grade sent back.")
        with self._console.status("forethought train"):
            training = self.measured.training = train(self._served.data_dir, seed=self._seed)
        for line in training_lines(training):
            self._console.print(line, highlight=False)
        if training.candidate is None:
            return
        if not training.promoted:
            promote(self._served.data_dir, training.candidate)
            self.measured.forced_promotion = True
            self._console.print(
                "[yellow]The gate refused, as it should on so little evidence. ONLY for this "
                "demonstration the new policy is let in all the same, by `forethought promote "
                f"{training.candidate}`.[/]"
            )
        self._swap()

    def _swap(self) -> None:
        """Ask one question again until the new policy answers it."""
        routed = [a for a in self.measured.answers if a.phase == "routed"]
        if not routed:
            return
        before = min(routed, key=lambda a: a.output_tokens)
        everyone = (*self._chosen, *sample.others(self._chosen))
        context = next(c for c in everyone if c.id == before.context)
        question = next(q for q in context.questions if q.id == before.question)
        again = Ask(context=context, question=question, strategy=None, phase="new policy")
        deadline = time.monotonic() + SWAP_TIMEOUT_S
        while True:
            (after,) = self._asking.all([again], tick=lambda: None)
            if after.policy_version != before.policy_version or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        self.measured.answers.append(after)
        self.measured.policy_before = before.policy_version
        self.measured.policy_after = after.policy_version
        self._console.print(words.swap_lines(before, after), highlight=False)

    def conclude(self) -> None:
        """The figures, and what they say."""
        say, measured = self._console.print, self.measured
        self._chapter("What came of it")
        say(report.results_table(measured.summaries))
        say(report.sleep_table(measured.sleeps))
        if measured.break_evens:
            say(report.break_even_table(measured.break_evens))
        else:
            say("Sleep left nothing to answer from, so there is nothing to compare.")
        if measured.explained is not None:
            say(report.decision_table(measured.explained))
            say(escape(measured.explained.reason), highlight=False)
            if left_out := words.excluded_line(measured.explained):
                say(escape(left_out), highlight=False)
        say()
        for found in measured.break_evens:
            planned = self._planned(found.dataset)
            say(words.verdict(found, measured.summaries, planned=planned), highlight=False)
        say(words.caveats(measured.summaries), style="dim", highlight=False)
        say(f"Took {measured.seconds:.0f} s on {machine()}.", highlight=False)

    def _planned(self, dataset: str) -> str:
        return words.plan_line(self._chosen, self.measured.plans, dataset)

    def _asked(self, strategy: str, *, leave_out: Sequence[str] = ()) -> list[Ask]:
        """The questions for one strategy."""
        return [
            Ask(context=context, question=question, strategy=strategy, phase="forced")
            for context in self._chosen
            if context.id not in leave_out
            for question in sample.asked(context, self._sizes[context.dataset], strategy)
        ]

    def _thought(self, *, leave_out: Sequence[str]) -> list[Ask]:
        """The few questions for learned:high, whose answers are long."""
        found = []
        for dataset, share in self._sizes.items():
            firsts = [
                Ask(context=c, question=c.questions[0], strategy="learned:high", phase="forced")
                for c in self._chosen
                if c.dataset == dataset and c.id not in leave_out
            ]
            found += firsts[: share.thought]
        return found

    def _ask(self, label: str, asks: Sequence[Ask]) -> list[Answer]:
        if not asks:
            return []
        began = time.monotonic()
        with self._progress(label, len(asks)) as tick:
            found = self._asking.all(asks, tick=tick)
        self.measured.answers += found
        tokens = sum(a.output_tokens for a in found)
        took = time.monotonic() - began
        self._console.print(
            f"  {label}: {len(found)} answers, {tokens} output tokens, {took:.1f} s",
            highlight=False,
        )
        return found

    def _late(self, what: str, *, after_s: float = PATIENCE_S) -> bool:
        late = time.monotonic() - self._began > after_s
        if late:
            self._console.print(f"  {what} is left out: this machine takes longer than planned.")
        return late

    def _chapter(self, title: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{title}[/]", align="left")

    @contextmanager
    def _progress(self, label: str, total: int) -> Iterator[Tick]:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        terminal = self._console.is_terminal
        with Progress(
            *columns, console=self._console, transient=True, disable=not terminal
        ) as progress:
            task = progress.add_task(label, total=total)
            yield lambda: progress.advance(task)
