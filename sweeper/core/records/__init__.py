"""What flows through sweeper, from images to report. Read in the order below, it tells the whole story.

    images + masks → Dataset → ImbalanceProfile → SearchSpace → TrialSpec → TrialResult → Evidence → Recommendation

data.py, imbalance.py, space.py, training.py, misses.py, evidence.py, recommendation.py, sweep.py: each imports those
before it alone.

Every record (see `sweeper.core.base`) is frozen, refuses unknown fields, checks itself and round-trips through JSON
(`record.model_dump_json()` and `Kind.model_validate_json(text)`), so that a stage can be rerun, inspected,
or tested from a literal. What is fixed about a training besides its loss is `sweeper.core.recipe.Recipe`.
"""

from sweeper.core.records.data import IGNORE, Dataset, ImageInfo, Patterns, Split, SplitName, Task
from sweeper.core.records.evidence import (
    Comparison,
    Contender,
    Contest,
    DecisionRule,
    DecisionRules,
    Evidence,
    FinalistEvidence,
    InterimAnalysis,
    Interval,
    Preference,
    PreferenceName,
    Regret,
    RuleMetric,
    RuleName,
    Scale,
    Scope,
    Until,
)
from sweeper.core.records.imbalance import ClassProfile, ImbalanceProfile
from sweeper.core.records.misses import HeldOut, MissControl, MissLimit
from sweeper.core.records.recommendation import (
    AnalysisTaken,
    Recommendation,
    Recommended,
    Strength,
    Verdict,
)
from sweeper.core.records.space import Coordinate, CoordinateKind, FamilySpace, OwnLoss, SearchSpace, Start
from sweeper.core.records.sweep import SweepRecord
from sweeper.core.records.training import (
    Collapse,
    Conditions,
    Evaluation,
    ImageCounts,
    PartScores,
    Predictions,
    Probed,
    RateFit,
    RateRange,
    Rates,
    SameLoss,
    SameLosses,
    Scores,
    TestDetail,
    TrainedBy,
    TrainedOn,
    TrialResult,
    TrialSpec,
)

__all__ = [
    "IGNORE",
    "AnalysisTaken",
    "ClassProfile",
    "Collapse",
    "Comparison",
    "Conditions",
    "Contender",
    "Contest",
    "Coordinate",
    "CoordinateKind",
    "Dataset",
    "DecisionRule",
    "DecisionRules",
    "Evaluation",
    "Evidence",
    "FamilySpace",
    "FinalistEvidence",
    "HeldOut",
    "ImageCounts",
    "ImageInfo",
    "ImbalanceProfile",
    "InterimAnalysis",
    "Interval",
    "MissControl",
    "MissLimit",
    "OwnLoss",
    "PartScores",
    "Patterns",
    "Predictions",
    "Preference",
    "PreferenceName",
    "Probed",
    "RateFit",
    "RateRange",
    "Rates",
    "Recommendation",
    "Recommended",
    "Regret",
    "RuleMetric",
    "RuleName",
    "SameLoss",
    "SameLosses",
    "Scale",
    "Scope",
    "Scores",
    "SearchSpace",
    "Split",
    "SplitName",
    "Start",
    "Strength",
    "SweepRecord",
    "Task",
    "TestDetail",
    "TrainedBy",
    "TrainedOn",
    "TrialResult",
    "TrialSpec",
    "Until",
    "Verdict",
]
