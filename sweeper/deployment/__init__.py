"""Use a finished study: train, export and apply the recommended network."""
