"""From confirmed runs to what they prove: pure functions, no torch."""
