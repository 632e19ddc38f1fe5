"""What was published about losses for imbalanced segmentation, and how a result compares with it.

The table is `studies.STUDIES`; docs/literature.md is made from it. `compare_with_literature` and `explain` give plain
sentences for the report. They contain class names as they are in the data set: the renderer must escape them.
"""

from sweeper.literature.compare import compare_with_literature
from sweeper.literature.explain import explain
from sweeper.literature.studies import STUDIES, Study

__all__ = ["STUDIES", "Study", "compare_with_literature", "explain"]
