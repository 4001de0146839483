"""Two result stores side by side."""
