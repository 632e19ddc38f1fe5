"""The verdict on runs that sweeper did not train: scores in a table → evidence → judgement."""
