"""Loss × decision rule × metric of finished studies, from their storage alone; nothing is trained.

    python bench/decision_rules.py DATABASE.db [DATABASE.db …]

Rows are finalists. Each cell is the score, and behind it the gain over `plain` with its 95 % interval over seeds and
images. `best` is the loss that reads highest under the rule, with its lead over the best one at `plain`. Under the
tables: what RankDice gains over `tuned`, and the calibration error before and after. At the end: what `predict_each`
of the code to paste takes, in processor time of one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from sweeper import storage
from sweeper.core.records import DecisionRules, Evidence, Interval
from sweeper.evidence.decision_rules import score_decision_rules
from sweeper.losses import make_snippet
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.confirmation_evidence import list_test_groups


def format_gain(value: Interval) -> str:
    return f"{value.estimate:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def tables(found: DecisionRules, evidence: Evidence) -> list[str]:
    names = [finalist.family for finalist in evidence.finalists]
    lines = []
    for metric in dict.fromkeys(rule.metric for rule in found.rules):
        rules = [rule for rule in found.rules if rule.metric == metric]
        lines += ["", f"| {metric} | {' | '.join(rule.name for rule in rules)} |", "|:--|" + "--:|" * len(rules)]
        for i, name in enumerate(names):
            cells = [
                f"{r.scores[i].estimate:.3f}" + ("" if r.name == "plain" else f" ({format_gain(r.gains[i])})")
                for r in rules
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        leads = [names[r.best] + ("" if r.best == rules[0].best else f" ({format_gain(r.lead)})") for r in rules]
        lines.append(f"| *best* | {' | '.join(leads)} |")
        spread = [max(r.scores[i].estimate for i in range(len(names))) for r in rules]
        by_loss = max(s.estimate for s in rules[0].scores) - min(s.estimate for s in rules[0].scores)
        lines += ["", f"best plain loss over the worst: {by_loss:.3f}; best rule over plain, each with its best loss: "
                  f"{max(spread) - spread[0]:+.3f}"]  # fmt: skip
    ranked = next((r for r in found.rules if (r.name, r.metric) == ("rank_dice", "image_dice")), None)
    if ranked is not None:
        gains = [f"{name} {format_gain(gain)}" for name, gain in zip(names, ranked.over_tuned, strict=True)]
        lines += [f"RankDice over tuned, image_dice, {100 * found.level:.4g} %: {'; '.join(gains)}"]
    for i, name in enumerate(names if found.ece else ()):
        lines.append(
            f"{name}: slope {found.slopes[i]:.2f}, bias {found.biases[i]:+.2f}; calibration error "
            f"{found.ece[i].estimate:.4f} → {found.ece_calibrated[i].estimate:.4f}, less by "
            f"{format_gain(found.ece_gains[i])}"
        )
    return lines


def seconds_of(side: int, repeats: int = 5) -> float:
    """Return the least processor time of `predict_each` on one thread, for logits of a trained network."""
    torch.set_num_threads(1)
    made: dict[str, Any] = {}
    exec(make_snippet("dice", {}, "binary", ["ground", "crack"], point=0.5, each=(0.6, -1.0)), made)
    logits = 3 * torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)) - 4
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        made["predict_each"](logits)
        taken.append(time.process_time() - started)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="+", type=Path)
    for path in parser.parse_args().databases:
        opened = storage.open_storage(f"sqlite:///{path.resolve()}", create=False)
        for name in storage.list_study_names(opened):
            sweep = storage.load_sweep(opened, name)
            evidence = draw_conclusion(sweep).evidence
            if evidence is None:
                continue
            groups = list_test_groups(sweep.conditions, sweep.confirmations)
            found = score_decision_rules(sweep.confirmations, evidence, groups=groups)
            seeds = sorted({len(f.seeds) for f in evidence.finalists})
            print(f"\n## {name}: {sweep.conditions.dataset.name}, {evidence.test_images} test images"
                  f"{'' if evidence.test_groups is None else f' in {evidence.test_groups} groups'}, "
                  f"{' to '.join(map(str, seeds[:: max(1, len(seeds) - 1)]))} seeds")  # fmt: skip
            if found is not None:
                print("\n".join(tables(found, evidence)))
    print()
    for side in (256, 1024):
        print(f"predict_each: {1e3 * seconds_of(side):.0f} ms for an image of {side} × {side} pixels")


if __name__ == "__main__":
    main()
