"""One training: model, batches, averaging, evaluation. Torch lives here and in `sweeper.losses`."""
