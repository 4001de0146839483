"""What a page shows of a study beside its returns."""
