"""Searches for hyperparameters: the file's schema, the runs of a trial, the storage, the search, and its table."""
