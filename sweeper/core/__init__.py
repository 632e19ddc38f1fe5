"""What every package speaks: records, the recipe, metrics, errors, file names and words."""
