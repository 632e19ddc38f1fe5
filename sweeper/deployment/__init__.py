"""What a finished study gives back: the recommended network trained to its end, exported, applied."""
