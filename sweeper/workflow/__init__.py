"""The flow of a command, from the request to the report."""
