"""Records that flow through sweeper, from images to report, in the order in which they are made.

  images + masks → Dataset → ImbalanceProfile → SearchSpace → TrialSpec → TrialResult → Evidence → Recommendation

data.py, training.py, evidence.py, recommendation.py: each imports only those before it.

Every record (`sweeper.core.base`) is frozen, refuses unknown fields, validates itself and round-trips through JSON
(`record.model_dump_json()` and `Kind.model_validate_json(text)`), so that a stage can be rerun, inspected, or tested
from a literal. The fixed settings of a training besides its loss are in `sweeper.core.recipe.Recipe`.
"""

from sweeper.core.records.answer import Answer, Gain, Kind, NextStep, Outcome, Remark, Sure, Use, Value
from sweeper.core.records.data import (
    IGNORE,
    ClassProfile,
    Coordinate,
    CoordinateKind,
    Dataset,
    FamilySpace,
    FamilyStart,
    ImageInfo,
    ImbalanceProfile,
    OperatingPoint,
    Patterns,
    SearchSpace,
    Split,
    SplitName,
    Task,
    UserLoss,
)
from sweeper.core.records.evidence import (
    ClassEvidence,
    Comparison,
    Contender,
    Contest,
    Evidence,
    FinalComparison,
    FinalistEvidence,
    InterimAnalysis,
    Interval,
    OtherMeasure,
    Regret,
    Scale,
    Scope,
)
from sweeper.core.records.recommendation import AnalysisTaken, SweepRecord, TrainerRow, list_trainers
from sweeper.core.records.training import (
    Breadth,
    BudgetProbe,
    Collapse,
    Conditions,
    Evaluation,
    ImageCounts,
    MetricScores,
    PartScores,
    Predictions,
    RateRange,
    Rung,
    SameLoss,
    SameLosses,
    StudyRates,
    TestDetail,
    TrainedBy,
    TrainedOn,
    TrialResult,
    TrialSpec,
)
