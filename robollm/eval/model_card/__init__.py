"""A bundle's model card: what it is, what it was made of, what it can do, and where it fails."""
