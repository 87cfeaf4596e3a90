"""Training sets: labels, splits, the release and how it is read again."""
