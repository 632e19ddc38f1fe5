"""Uses of a finished study: the recommended network trained to its end, exported, applied."""
