"""How long a decision takes, from a parsed request to a strategy, beside its parts.

The shipped policy on recorded contexts of every data set, with the notes that were recorded, each
query new. A decision is what ``POST /v1/chat/completions`` waits for before the upstream is asked:
features (the query is embedded), predictions for all strategies, utilities, propensities, a draw
and the record of it. Its parts are timed within it (``bench.decision_parts``). Beside it: some of
them alone, and the same without a policy, which falls back to ``direct``. What explains a decision
is not part of it: that is computed when somebody asks, and timed apart. What is remembered of the
tenant's past is as much as there can be. Its contexts stay the same while decisions are timed, but
for one row, where one came or went before each.

Needs: bench/recorded/*.parquet (ship with the repository).
Takes: a minute.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.decision_parts import parts_ms, rows_of
from bench.layout import table
from bench.publish import DATASETS, RECORDED, golds
from bench.recorder import context_messages, learned_of
from bench.recordings import Recording, read_recordings
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor, matrix
from forethought.models.history import CONTEXTS
from forethought.router.allocation import Preferences, with_propensities
from forethought.router.blending import Blending
from forethought.router.candidates import predict_candidates
from forethought.router.context import context_hash, split
from forethought.router.decision import Decider
from forethought.router.experience import Asked, Experience, Judged
from forethought.router.explanation import explain
from forethought.router.past_policies import FoundPolicy
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Candidate, Context, Decision, GradedAnswer
from forethought.router.situation import Situation, SituationFeatures, expected_inputs
from forethought.router.strategies import STRATEGIES, Request

LEVEL: Final = "k3r1"
PRICES: Final = Prices(input=0.25, cached_input=0.025, output=2.0)
TARGET_P99_MS: Final = 0.5


def situations(recording: Recording) -> list[Situation]:
    """One situation a recorded query whose context has notes."""
    contexts, found = golds(DATASETS), []
    for (context_id, level), sleep in recording.sleeps.items():
        if level != LEVEL or not sleep["notes"]:
            continue
        row, queries = contexts[context_id]
        front = context_messages(row)
        prefix = context_hash(front, None)
        context = Context(
            id=context_id, tenant="bench", hash=prefix, messages=tuple(front),
            text=front[0]["content"], created_at=0.0, n_queries=1, last_query_at=1.0,
        )  # fmt: skip
        learned = learned_of(sleep)
        for query in queries.values():
            body = {"model": "m", "messages": [*front, {"role": "user", "content": query["query"]}]}
            cut = split(body, known={prefix}.__contains__, shared=lambda _: False)
            found.append(
                Situation(
                    tenant="bench", model="m", context=context, now=60.0,
                    request=Request(body=body, split=cut, learned=learned),
                )
            )  # fmt: skip
    return found


def remembered(extractor: FeatureExtractor, over: Sequence[Situation]) -> Experience:
    """A past of as many contexts and queries as are kept of one tenant, the recorded ones last."""
    experience, rng = Experience(extractor), np.random.default_rng(0)
    for i in range(CONTEXTS):
        drawn = rng.normal(size=len(extractor.query_embedding("")))
        context = replace(next(s.context for s in over if s.context), id=f"old_{i}", text=str(i))
        vector = (drawn / np.linalg.norm(drawn)).astype(np.float32)
        experience.precedents(context, vector, context.tenant)
        asked = Asked(at=float(i), context_id=context.id, query="", created_at=float(i))
        experience.asked(asked, context)
    for at, situation in enumerate(list(over) * 4):
        if situation.context is not None:
            asked = Asked(
                at=float(at), context_id=situation.context.id, created_at=float(at),
                query=situation.request.split.query,
            )  # fmt: skip
            experience.asked(asked, situation.context)
            experience.heard(
                Judged(at=float(at), context_id=asked.context_id, strategy="learned:low",
                       quality=float(at % 2), before=None)
            )  # fmt: skip
    return experience


def passing(experience: Experience, situation: Situation) -> None:
    """Let another context of the tenant come and go: what is near has to be looked for anew."""
    if situation.context is not None:
        context = replace(situation.context, id="passing")
        asked = Asked(at=0.0, context_id=context.id, query="", created_at=0.0)
        experience.asked(asked, context)
        experience.forget(context.id)


def timed(
    call: Callable[[Situation], object],
    over: Sequence[Situation],
    rounds: int,
    before: Callable[[Situation], object] = lambda _: None,
) -> list[float]:
    """Milliseconds of each call; the first round fills the caches and is left out.

    What is done ``before`` each is not timed.
    """
    took: list[float] = []
    for number in range(rounds + 1):
        for situation in over:
            before(situation)
            began = time.perf_counter_ns()
            call(situation)
            if number:
                took.append((time.perf_counter_ns() - began) / 1e6)
    return took


def _explaining_ms(decision: Decision, policy: FoundPolicy) -> float:
    began = time.perf_counter_ns()
    explain(decision, policy)
    return (time.perf_counter_ns() - began) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.decision", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()

    over = situations(read_recordings(args.recorded)[args.model])
    bundle = PolicyBundle.load(pretrained_dir())
    prices, preferences = PriceTable({"m": PRICES}), Preferences()
    extractor = FeatureExtractor(WordLlamaEmbedder().load())
    experience = remembered(extractor, over)
    vectors = {id(s): extractor.context(s.request.split.context_text).embedding for s in over}

    # The bound would leave Thompson sampling and softmax less to share.
    thompson = Preferences(exploration_kind="thompson", quality_margin=1.0)
    softmax = replace(thompson, exploration_kind="softmax")

    def decider(policy: PolicyBundle | None, wanted: Preferences = preferences) -> Decider:
        return Decider(
            extractor=extractor, bundle=policy, prices=prices, preferences=wanted,
            rng=random.Random(0), experience=experience,
        )  # fmt: skip

    blended = decider(bundle)
    blended.blending = Blending()
    blended.blending.begin(bundle.version, concentration=bundle.predictability.concentration)
    for n in range(20):
        blended.blending.judged(
            bundle.version,
            GradedAnswer(
                decision_id=str(n), tenant="bench", model="m", context_id=None,
                candidate=Candidate(strategy="direct", quality=0.5), quality=1.0,
            ),
        )  # fmt: skip

    within = parts_ms(decider(bundle), over, args.rounds)
    features = SituationFeatures(extractor, experience)
    row = {id(s): features.of(s) for s in over}
    nothing: dict[str, str | None] = dict.fromkeys(STRATEGIES)

    def predict(situation: Situation) -> object:
        inputs = expected_inputs(situation)
        return predict_candidates(bundle, row[id(situation)], nothing, inputs, PRICES, preferences)

    candidates = {id(s): predict(s) for s in over}
    names = list(STRATEGIES)

    def by_lightgbm(features: dict[str, float]) -> object:
        outcome = bundle.outcome.predict(matrix([features] * len(names), names))
        return outcome, bundle.predictability.predict([features])

    parts: dict[str, Callable[[Situation], object]] = {
        "decision": decider(bundle).decide,
        "  features": features.of,
        "    of which the tenant's past": lambda s: experience.precedents(
            s.context, vectors[id(s)], s.tenant
        ),
        "  predictions, all strategies": predict,
        "    of which all models": lambda s: bundle.foresee(row[id(s)]),
        "    the same by LightGBM": lambda s: by_lightgbm(row[id(s)]),
        "  propensities": lambda s: with_propensities(candidates[id(s)], preferences),  # type: ignore[arg-type]
        "decision by Thompson sampling": decider(bundle, thompson).decide,
        "  its propensities": lambda s: with_propensities(candidates[id(s)], thompson),  # type: ignore[arg-type]
        "decision by softmax": decider(bundle, softmax).decide,
        "decision, blended with a tenant's answers": blended.decide,
        "decision without a policy": decider(None).decide,
    }
    found = {name: np.array(timed(call, over, args.rounds)) for name, call in parts.items()}
    unsettled = timed(decider(bundle).decide, over, args.rounds, lambda s: passing(experience, s))
    found["decision, after a context came and went"] = np.array(unsettled)
    print(f"{len(over)} queries, {args.rounds} rounds; ms")
    shown = [
        [name, *(f"{np.percentile(took, p):.3f}" for p in (50, 90, 99))]
        for name, took in found.items()
    ]
    print(table(["", "p50", "p90", "p99"], shown))
    print("Within a decision, each part without those it calls:")
    print(table(["", "p50", "p99"], rows_of(within)))
    policy = FoundPolicy(version=bundle.version, bundle=bundle)
    asked = [decider(bundle).decide(situation) for situation in over[:: max(1, len(over) // 100)]]
    explaining = np.array([_explaining_ms(decision, policy) for decision in asked])
    print(
        f"explaining one of them, when somebody asks why: p50 {np.median(explaining):.1f} ms, "
        f"p99 {np.percentile(explaining, 99):.1f} ms, off the path of any request"
    )
    figures = {
        f"p{p}_ms": round(float(np.percentile(found["decision"], p)), 4) for p in (50, 90, 99)
    }
    past = found["    of which the tenant's past"]
    figures["past_p50_ms"] = round(float(np.median(past)), 4)
    figures |= {
        f"{short}_p99_ms": round(float(np.percentile(found[name], 99)), 4)
        for short, name in {
            "thompson": "decision by Thompson sampling",
            "softmax": "decision by softmax",
            "blended": "decision, blended with a tenant's answers",
            "unsettled": "decision, after a context came and went",
        }.items()
    }
    figures["explain_p50_ms"] = round(float(np.median(explaining)), 2)
    targets = {"p99_ms": TARGET_P99_MS}
    print(json.dumps({"bench": "decision", "figures": figures, "targets": targets}))


if __name__ == "__main__":
    main()
