"""The markdown report, its tables and figures."""
