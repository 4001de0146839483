"""The page of a tuning: its trials, what they found beside what is printed, and how the objective lies between."""
