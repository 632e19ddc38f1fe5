"""Types and helpers that every package uses: records, the recipe, metrics, errors, file names and formatting."""
