"""One training: model, batches, averaging, evaluation. Only this package and `sweeper.losses` import torch."""
