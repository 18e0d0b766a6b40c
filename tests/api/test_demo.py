"""``forethought demo``: its sample, its arithmetic, its words, and the whole story."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from forethought.api.demo import figures, report, sample, words
from forethought.api.demo.command import PLAIN_WIDTH
from forethought.api.demo.figures import Answer, Sleep
from forethought.api.demo.sample import FAIRYTALEQA, GSM8K
from forethought.api.demo.server import free_port
from forethought.client import Decision
from forethought.router import catalogue
from forethought.router.grading import grade
from tests.fake_upstream import FakeUpstreamServer


def answer(
    strategy: str,
    question: str = "q0",
    *,
    dataset: str = GSM8K,
    quality: float = 1.0,
    tokens: int = 200,
    cost_usd: float | None = 0.0003,
    phase: figures.Phase = "forced",
) -> Answer:
    return Answer(
        phase=phase,
        dataset=dataset,
        context="c0",
        question=question,
        strategy=strategy,
        mode="forced",
        propensity=1.0,
        policy_version="p1",
        decision_id="dec_1",
        quality=quality,
        input_tokens=120,
        cached_tokens=90,
        output_tokens=tokens,
        cost_usd=cost_usd,
        latency_ms=2500.0,
    )


def slept(*, dataset: str = GSM8K, cost_usd: float | None = 0.0009) -> Sleep:
    return Sleep(
        dataset=dataset,
        context="c0",
        context_id="ctx_1",
        n_notes=7,
        dropped=1,
        tokens=190,
        input_tokens=1000,
        cached_tokens=300,
        output_tokens=420,
        cost_usd=cost_usd,
    )


def both_ways(direct_usd: float | None, learned_usd: float | None) -> figures.BreakEven:
    answers = [
        answer("direct", cost_usd=direct_usd),
        answer("learned:low", tokens=4, quality=0.0, cost_usd=learned_usd),
    ]
    found = figures.break_even(GSM8K, answers, [slept()])
    assert found is not None
    return found


def rendered(*shown: RenderableType) -> str:
    out = StringIO()
    console = Console(file=out, width=160)
    for item in shown:
        console.print(item)
    return out.getvalue()


@pytest.mark.parametrize("dataset", sample.DATASETS)
def test_every_shipped_question_is_graded_right_by_its_own_answer(dataset: str) -> None:
    contexts = sample.load(dataset)
    assert len(contexts) >= max(sizes[dataset].contexts for sizes in (sample.FULL, sample.QUICK))
    for context in contexts:
        for question in context.questions:
            assert grade(dataset, str(question.row["answer"]), question.row) == 1.0


@pytest.mark.parametrize("sizes", [sample.FULL, sample.QUICK], ids=["full", "quick"])
def test_the_seed_alone_draws_the_contexts(sizes: dict[str, sample.Share]) -> None:
    first, again = (sample.choose(sizes, seed=3) for _ in range(2))
    assert first == again
    assert len(first) == sum(share.contexts for share in sizes.values())
    for context in first:
        share = sizes[context.dataset]
        assert len(sample.asked(context, share, "learned:low")) == share.asked
        assert len(sample.asked(context, share, "direct")) == share.direct <= share.asked
        assert len(sample.routed(context, share)) == share.routed


def test_what_was_not_drawn_is_left_for_the_plans() -> None:
    chosen = sample.choose(sample.FULL, seed=0)
    rest = sample.others(chosen)
    assert not {c.id for c in chosen} & {c.id for c in rest}
    assert len(chosen) + len(rest) == sum(len(sample.load(d)) for d in sample.DATASETS)


def test_only_the_stories_ask_for_few_words() -> None:
    for dataset, short in ((GSM8K, False), (FAIRYTALEQA, True)):
        content = sample.load(dataset)[0].messages[0]["content"]
        assert content.endswith("\n\nAnswer in a few words.") is short


def test_the_full_demo_is_planned_for_less_than_five_minutes() -> None:
    model = catalogue.MODELS["qwen2.5-coder-1.5b"]
    planned = sample.estimated_seconds(
        sample.FULL,
        prefill_tokens_per_s=model.prefill_tokens_per_s,
        decode_tokens_per_s=model.decode_tokens_per_s,
    )
    assert planned < 300


@pytest.mark.parametrize(
    ("sleep_cost", "saved", "queries"),
    [
        pytest.param(0.9, 0.3, 3, id="exactly three, whatever 0.9 / 0.3 is in binary"),
        pytest.param(1.0, 0.3, 4, id="the query that completes it counts"),
        pytest.param(0.1, 5.0, 1, id="at least one query"),
        pytest.param(0.0, 1.0, 1, id="free sleep"),
        pytest.param(1.0, 0.0, None, id="nothing saved"),
        pytest.param(1.0, -0.2, None, id="dearer than direct"),
    ],
)
def test_break_even(sleep_cost: float, saved: float, queries: int | None) -> None:
    assert figures.break_even_queries(sleep_cost, saved) == queries


@given(
    sleep_cost=st.floats(1e-6, 1e-2), direct=st.floats(1e-6, 1e-2), learned=st.floats(1e-6, 1e-2)
)
def test_sleep_costs_no_more_from_break_even_on_and_more_before(
    sleep_cost: float, direct: float, learned: float
) -> None:
    n = figures.break_even_queries(sleep_cost, direct - learned)
    if n is not None and n < 1e6:
        assert figures.cost_with_sleep(sleep_cost, learned, n) <= direct * (1 + 1e-6)
        if n > 1:
            assert figures.cost_with_sleep(sleep_cost, learned, n - 1) >= direct * (1 - 1e-6)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        pytest.param(0, 10, 0.0, 0.2775, id="none right"),
        pytest.param(5, 10, 0.2366, 0.7634, id="half"),
        pytest.param(10, 10, 0.7225, 1.0, id="all right"),
        pytest.param(0, 0, 0.0, 1.0, id="nothing asked"),
    ],
)
def test_wilson_interval(right: int, n: int, low: float, high: float) -> None:
    assert figures.wilson(right, n) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_bootstrap_interval_stays_within_the_values(values: list[float]) -> None:
    low, high = figures.bootstrap(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_break_even_compares_only_questions_answered_both_ways() -> None:
    answers = [
        answer("direct", "q0", cost_usd=0.0004),
        answer("direct", "q1", cost_usd=0.0004),
        answer("direct", "only direct", cost_usd=9.0),
        answer("learned:low", "q0", cost_usd=0.0001, quality=0.0),
        answer("learned:low", "q1", cost_usd=0.0001),
        answer("learned:low", "by the router", cost_usd=9.0, phase="routed"),
    ]
    found = figures.break_even(GSM8K, answers, [slept(cost_usd=0.0009)])
    assert found is not None
    assert (found.n, found.contexts, found.asked, found.queries) == (2, 1, 2.0, 3)
    assert found.with_sleep_usd == pytest.approx(0.0001 + 0.0009 / 2)
    assert (found.quality_direct, found.quality_learned, found.paid) == (1.0, 0.5, False)


@pytest.mark.parametrize(
    ("direct_usd", "learned_usd", "cell", "said"),
    [
        pytest.param(0.0004, 0.0001, "3 queries", "pays from query 3", id="pays later"),
        pytest.param(0.0011, 0.0001, "1 query", "it has paid", id="has paid"),
        pytest.param(0.0001, 0.0004, "never", "sleep did not pay", id="dearer"),
        pytest.param(None, None, "price unknown", "cannot be said", id="no price"),
    ],
)
def test_the_verdict_says_what_the_figures_say(
    direct_usd: float | None, learned_usd: float | None, cell: str, said: str
) -> None:
    found = both_ways(direct_usd, learned_usd)
    assert report.break_even_words(found) == cell
    verdict = words.verdict(found, [])
    assert said in verdict
    assert "0%" in verdict  # learned:low's own quality is never left out


def test_the_tables_show_what_was_measured() -> None:
    answers = [
        answer("direct"),
        answer("direct", "q1", quality=0.0),
        answer("learned:low", tokens=4, cost_usd=None),
        answer("learned:low", dataset=FAIRYTALEQA, quality=0.25),
        answer("direct", "q2", phase="routed"),
    ]
    shown = rendered(
        report.results_table(figures.summarise(answers)),
        report.sleep_table([slept(), slept(dataset=FAIRYTALEQA, cost_usd=None)]),
        report.break_even_table([both_ways(0.0004, 0.0001)]),
    )
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    for expected in (
        "GSM8K direct 2 50% [9%, 91%] 200 120 (90) 2.50 s 0.300",
        "learned:low 1 100% [21%, 100%] 4 120 (90) 2.50 s -",
        "router 1 100% [21%, 100%] 200 120 (90) 2.50 s 0.300",
        "FairytaleQA learned:low 1 0.25 [0.25, 0.25] 200 120 (90) 2.50 s 0.300",
        "GSM8K 1 7.0 (1.0) 190 420 1000 (300) 0.900",
        "FairytaleQA 1 7.0 (1.0) 190 420 1000 (300) -",
        "GSM8K 0.900 0.400 0.100 0.300 3 queries 1 1.000",
    ):
        assert any(expected in row for row in rows), expected


def test_plans_name_what_is_bought_and_what_never_pays() -> None:
    contexts = [sample.load(GSM8K)[0], sample.load(FAIRYTALEQA)[0]]
    plans: dict[str, dict[str, object]] = {
        contexts[0].id: {"buy": True, "break_even": 2.5, "n_queries": 6, "predictability": 0.4},
        contexts[1].id: {"buy": False, "break_even": None, "n_queries": 6, "predictability": 0.1},
    }
    shown = rendered(report.plans_table(contexts, plans))
    assert "2.5" in shown
    assert "never" in shown
    assert "buy" in shown


@pytest.mark.parametrize(
    ("high", "low", "expected"),
    [
        pytest.param([0.9, 0.8], [0.1, 0.2], 1.0, id="apart"),
        pytest.param([0.5], [0.5], 0.5, id="alike"),
        pytest.param([0.1], [0.9], 0.0, id="the wrong way round"),
        pytest.param([], [0.9], None, id="one kind only"),
    ],
)
def test_told_apart(high: Sequence[float], low: Sequence[float], expected: float | None) -> None:
    assert figures.told_apart({"a": high, "b": low}, "a", "b") == expected


def test_a_decision_is_shown_with_what_was_left_out() -> None:
    decision = Decision.model_validate(
        {
            "id": "dec_7",
            "created_at": 1.0,
            "model": "m",
            "strategy": "direct",
            "propensity": 0.95,
            "mode": "greedy",
            "policy_version": "p1",
            "reason": "because",
            "features": {},
            "changes": [],
            "candidates": [
                {"strategy": "direct", "quality": 0.5, "cost_usd": 0.0003, "propensity": 0.95},
                {"strategy": "learned:low", "excluded": "nothing was learned"},
                {"strategy": "learned:high", "excluded": "nothing was learned"},
            ],
        }
    )
    shown = rendered(report.decision_table(decision))
    assert "dec_7" in shown
    assert "0.950" in shown
    left_out = words.excluded_line(decision)
    assert left_out == "Left out: learned:low, learned:high: nothing was learned."


@pytest.mark.parametrize(
    ("value_usd", "said"),
    [
        pytest.param(0.002, "the loss outweighs the saving", id="a right answer is worth much"),
        pytest.param(0.0001, "the saving outweighs it", id="a right answer is worth little"),
    ],
)
def test_cheaper_but_worse_is_weighed_by_what_a_right_answer_is_worth(
    value_usd: float, said: str
) -> None:
    assert said in words.verdict(both_ways(0.0004, 0.0001), [], value_usd=value_usd)


def test_what_the_notes_add_is_told_against_answering_at_once_without_sleep() -> None:
    at_once = figures.summarise([answer("effort:low", tokens=4, cost_usd=0.00002)])
    assert "the notes add nothing" in words.verdict(both_ways(0.0004, 0.0001), at_once)


def test_no_table_is_wider_than_a_log() -> None:
    long = answer("learned:high", "fairytaleqa-a-very-long-title-of-a-fairy-tale-indeed-7-q2")
    shown = rendered(
        report.results_table(figures.summarise([long])),
        report.routed_table([long]),
        report.break_even_table([both_ways(0.0004, 0.0001)]),
        report.sleep_table([slept()]),
    )
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= PLAIN_WIDTH
    assert "…d-7-q2" in shown


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def demo(*arguments: str, timeout_s: float = 170) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forethought.api.cli", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["--data-dir", "used"], "used is not empty", id="folder in use"),
        pytest.param(["--data-dir", "used/log"], "used/log cannot be used", id="not a folder"),
        pytest.param(["--model", "gpt-4"], "gpt-4", id="no such model"),
        pytest.param(["--model", "none.gguf"], "none.gguf", id="no such file"),
        pytest.param(
            ["--base-url", "http://127.0.0.1:9/v1"], "127.0.0.1:9", id="nobody listens there"
        ),
    ],
)
def test_what_cannot_work_is_one_line_and_status_2(arguments: list[str], named: str) -> None:
    Path("used").mkdir()
    Path("used/log").touch()
    done = demo(*arguments)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_the_server_ends_however_the_demo_does(ending: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    upstream = FakeUpstreamServer(models=("fake:delay=60000",))
    command = [sys.executable, "-m", "forethought.api.cli", "demo", "--quick"]
    command += ["--base-url", upstream.base_url, "--port", str(port), "--data-dir", str(tmp_path)]
    shutil.rmtree(tmp_path)
    with upstream, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            next(line for line in running.stdout if line.startswith("1. First queries"))
            running.send_signal(ending)
            assert running.wait(30) == (130 if ending is not signal.SIGKILL else -ending)
        finally:
            running.kill()
        deadline = time.monotonic() + 30
        while listens(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not listens(port)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_runs_on_any_openai_compatible_server(tmp_path: Path) -> None:
    with FakeUpstreamServer(models=("fake",)) as upstream:
        done = demo("--quick", "--json", "--base-url", upstream.base_url)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"] == "fake"
    assert {"direct", "effort:low", "router"} <= {r["strategy"] for r in found["results"]}
    assert "price" in done.stderr


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_demo_tells_the_whole_story_and_leaves_nothing_running(tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "demo"
    done = demo("--quick", "--json", "--port", str(port), "--data-dir", str(folder), timeout_s=590)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shares = sample.QUICK.values()
    by_strategy = [a["strategy"] for a in found["answers"] if a["phase"] == "forced"]
    assert by_strategy.count("direct") == sum(s.contexts * s.direct for s in shares)
    assert by_strategy.count("effort:low") == sum(s.contexts * s.asked for s in shares)
    assert len(found["sleep"]) == sum(s.contexts for s in sample.QUICK.values())
    assert all(0 < a["propensity"] <= 1 for a in found["answers"])
    assert (folder / "forethought.sqlite").is_file()
    if found["training"] is not None:
        assert found["policy"]["before"] != found["policy"]["after"]
    assert not listens(port)
