"""The audit of meta-gradient estimators."""
