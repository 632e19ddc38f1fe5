"""What was published about losses for imbalanced segmentation, and how a result compares with it.

The table is `studies.yaml`; docs/literature.md is made from it. `compare_with_literature` and `explain` give plain
sentences for the report. They contain class names as they are in the data set: the renderer must escape them.
"""

from sweeper.literature.compare import compare_with_literature
from sweeper.literature.explain import explain

__all__ = ["compare_with_literature", "explain"]
