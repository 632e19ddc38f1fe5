"""Loss × decision rule × metric of finished studies, from their storage alone; nothing is trained.

    python bench/decision_rules.py DATABASE.db [DATABASE.db …]

Rows are finalists. Each cell is the score, and behind it the gain over `plain` with its 95 % interval over seeds and
images. `best` is the loss that reads highest under the rule. Under the tables: the calibration error before and after,
and the time that it took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sweeper import storage
from sweeper.core.records import DecisionRules, Evidence, Interval
from sweeper.evidence.decision_rules import decision_rules
from sweeper.workflow.conclude import conclude
from sweeper.workflow.confirmation_evidence import groups_of_test_images


def told(value: Interval) -> str:
    return f"{value.estimate:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def tables(found: DecisionRules, evidence: Evidence) -> list[str]:
    names = [finalist.family for finalist in evidence.finalists]
    lines = []
    for metric in dict.fromkeys(rule.metric for rule in found.rules):
        rules = [rule for rule in found.rules if rule.metric == metric]
        lines += ["", f"| {metric} | {' | '.join(rule.name for rule in rules)} |", "|:--|" + "--:|" * len(rules)]
        for i, name in enumerate(names):
            cells = [
                f"{r.scores[i].estimate:.3f}" + ("" if r.name == "plain" else f" ({told(r.gains[i])})") for r in rules
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        leads = [names[r.best] + ("" if r.best == rules[0].best else f" ({told(r.lead)})") for r in rules]
        lines.append(f"| *best* | {' | '.join(leads)} |")
        spread = [max(r.scores[i].estimate for i in range(len(names))) for r in rules]
        by_loss = max(s.estimate for s in rules[0].scores) - min(s.estimate for s in rules[0].scores)
        lines += ["", f"best plain loss over the worst: {by_loss:.3f}; best rule over plain, each with its best loss: "
                  f"{max(spread) - spread[0]:+.3f}"]  # fmt: skip
    for i, name in enumerate(names if found.ece else ()):
        lines.append(
            f"{name}: slope {found.slopes[i]:.2f}, bias {found.biases[i]:+.2f}; calibration error "
            f"{found.ece[i].estimate:.4f} → {found.ece_calibrated[i].estimate:.4f}, less by {told(found.ece_gains[i])}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="+", type=Path)
    for path in parser.parse_args().databases:
        opened = storage.open_storage(f"sqlite:///{path.resolve()}", create=False)
        for name in storage.study_names(opened):
            sweep = storage.load_sweep(opened, name)
            evidence = conclude(sweep).evidence
            if evidence is None:
                continue
            groups = groups_of_test_images(sweep.conditions, sweep.confirmations)
            started = time.perf_counter()
            found = decision_rules(sweep.confirmations, evidence, groups=groups)
            seconds = time.perf_counter() - started
            print(f"\n## {name}: {sweep.conditions.dataset.name}, {evidence.test_images} test images")
            if found is not None:
                print("\n".join(tables(found, evidence)))
            runs = sum(len(f.seeds) for f in evidence.finalists)
            print(f"\nall of this: {seconds:.1f} s, {1e3 * seconds / max(1, runs * evidence.test_images):.1f} ms a run "
                  "and image")  # fmt: skip


if __name__ == "__main__":
    main()
