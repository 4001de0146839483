"""What the papers print and claim, as validated data."""
