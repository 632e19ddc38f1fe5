"""The flow of a command, from what was asked for to the report."""
