"""The tasks: which samples there are, what is asked of each, and how the answers score."""
