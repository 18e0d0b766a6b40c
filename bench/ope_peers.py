"""Other people's estimators on the same rows, each in an environment of its own.

``vw-estimators`` (Vowpal Wabbit) and ``obp`` (Open Bandit Pipeline) are no dependencies: they are
installed by uv, or venv and pip, where the bench can, and run there by this very file as a script.
Of obp the estimators' module is loaded alone, with an empty stand-in for torch: the package asks
for torch 1.12 and a Python before 3.11, its estimators for numpy and scikit-learn.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

PEERS: Final = ("vw-estimators==0.2.2", "obp==0.5.7")
_BESIDE: Final = ("numpy", "scipy", "pandas", "scikit-learn", "pyyaml")


def peers_python(folder: Path) -> Path | str:
    """The interpreter of an environment with the peers, made if need be; else why there is none."""
    python = folder / "bin" / "python"
    ready = folder / ".peers"
    if ready.is_file() and ready.read_text() == " ".join(PEERS):
        return python
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    shutil.rmtree(folder, ignore_errors=True)
    if uv:
        steps = [
            [uv, "venv", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--python", str(python), *_BESIDE],
            [uv, "pip", "install", "--python", str(python), "--no-deps", *PEERS],
        ]
    else:
        pip = [str(python), "-m", "pip", "install"]
        steps = [
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, *_BESIDE],
            [*pip, "--no-deps", "--ignore-requires-python", *PEERS],
        ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            return f"`{' '.join(step[1:4])} ...` failed: {said[-1]}"
    ready.write_text(" ".join(PEERS))
    return python


def run_peers(python: Path, rows: Path) -> dict[str, float | None] | str:
    """What each peer estimates from the arrays in ``rows`` (.npz); else why it could not."""
    done = subprocess.run(
        [str(python), __file__, str(rows)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1]
    found: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def _vowpal_wabbit(rows: Any) -> dict[str, float | None]:
    bandits = {
        name: importlib.import_module(f"estimators.bandits.{name}") for name in ("ips", "snips")
    }
    estimators = {f"vw {name}": module.Estimator() for name, module in bandits.items()}
    sequence = importlib.import_module("estimators.bandits.cs").Interval()
    taken = rows["target"][np.arange(len(rows["action"])), rows["action"]]
    for p, r, t in zip(
        rows["propensity"].tolist(), rows["reward"].tolist(), taken.tolist(), strict=True
    ):
        for one in estimators.values():
            one.add_example(p, r, t)
        sequence.add_example(p, r, t)
    found: dict[str, float | None] = {name: one.get() for name, one in estimators.items()}
    low, high = sequence.get(float(rows["alpha"]))
    return found | {"vw cs low": low, "vw cs high": high}


def _open_bandit_pipeline(rows: Any) -> dict[str, float | None]:
    folder = Path(str(importlib.metadata.distribution("obp").locate_file("obp")))
    # Packages without their __init__, which would import torch, and torch itself, which the
    # estimators' input checks name as a type only.
    for name in ("obp", "obp.ope"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder / name.partition(".")[2])]
        sys.modules[name] = package
    torch = types.ModuleType("torch")
    torch.__getattr__ = lambda _name: object  # type: ignore[method-assign] # PEP 562
    sys.modules["torch"] = torch
    obp = importlib.import_module("obp.ope.estimators")
    given = {
        "reward": rows["reward"],
        "action": rows["action"],
        "pscore": rows["propensity"],
        "action_dist": rows["target"][:, :, None],
        "position": np.zeros(len(rows["action"]), int),
        "estimated_rewards_by_reg_model": rows["predicted"][:, :, None],
    }
    knob = float(rows["parameter"])
    made: dict[str, Callable[[], Any]] = {
        "obp dm": obp.DirectMethod,
        "obp ips": obp.InverseProbabilityWeighting,
        "obp clipped_ips": lambda: obp.InverseProbabilityWeighting(lambda_=knob),
        "obp snips": obp.SelfNormalizedInverseProbabilityWeighting,
        "obp dr": obp.DoublyRobust,
        "obp sndr": obp.SelfNormalizedDoublyRobust,
        "obp switch_dr": lambda: obp.SwitchDoublyRobust(lambda_=knob),
        "obp dros": lambda: obp.DoublyRobustWithShrinkage(lambda_=knob),
    }
    return {name: float(make().estimate_policy_value(**given)) for name, make in made.items()}


def _script(path: str) -> None:
    rows = np.load(path)
    found = _vowpal_wabbit(rows) | _open_bandit_pipeline(rows)
    whole = {k: None if v is None or math.isnan(v) else float(v) for k, v in found.items()}
    print(json.dumps(whole))


if __name__ == "__main__":
    _script(sys.argv[1])
