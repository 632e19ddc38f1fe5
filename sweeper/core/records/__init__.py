"""What flows through sweeper, from images to report. Read in the order below, it tells the whole story.

    images + masks → Dataset → ImbalanceProfile → SearchSpace → TrialSpec → TrialResult → Evidence → Recommendation

data.py, imbalance.py, space.py, training.py, evidence.py, sweep.py: each imports those before it alone.

Every record (see `sweeper.core.base`) is frozen, refuses unknown fields, checks itself and round-trips through JSON
(`record.model_dump_json()` and `Kind.model_validate_json(text)`), so that a stage can be rerun, inspected,
or tested from a literal. What is fixed about a training besides its loss is `sweeper.core.recipe.Recipe`.
"""

from sweeper.core.records.data import IGNORE, Dataset, ImageInfo, Patterns, Split, SplitName, Task
from sweeper.core.records.evidence import (
    AnalysisTaken,
    BudgetPoint,
    Comparison,
    Evidence,
    FinalistEvidence,
    InterimAnalysis,
    Interval,
    Preference,
    PreferenceName,
    Recommendation,
    Recommended,
    Regret,
    SearchAnalysis,
    Strength,
    Until,
    VariancePart,
    Verdict,
)
from sweeper.core.records.imbalance import ClassProfile, ImbalanceProfile
from sweeper.core.records.space import Coordinate, CoordinateKind, FamilySpace, OwnLoss, SearchSpace
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
    "BudgetPoint",
    "ClassProfile",
    "Collapse",
    "Comparison",
    "Conditions",
    "Coordinate",
    "CoordinateKind",
    "Dataset",
    "Evaluation",
    "Evidence",
    "FamilySpace",
    "FinalistEvidence",
    "ImageCounts",
    "ImageInfo",
    "ImbalanceProfile",
    "InterimAnalysis",
    "Interval",
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
    "SameLoss",
    "SameLosses",
    "Scores",
    "SearchAnalysis",
    "SearchSpace",
    "Split",
    "SplitName",
    "Strength",
    "SweepRecord",
    "Task",
    "TestDetail",
    "TrainedBy",
    "TrainedOn",
    "TrialResult",
    "TrialSpec",
    "Until",
    "VariancePart",
    "Verdict",
]
