"""What a picking robot does to a heap, and what goes wrong."""
