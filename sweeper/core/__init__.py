"""What every room speaks: records, the recipe, metrics, errors, file names and words."""
