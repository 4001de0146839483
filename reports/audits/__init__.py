"""The papers' own numbers, looked at."""
