"""Identification: picks against reference images, as retrieval (thesis, chapter 8)."""
