"""One training: model, batches, averaging, evaluation. Torch is imported mainly here and in `sweeper.losses`."""
