"""How good is a space of embeddings? Isotropy, cosines of positives against negatives, t-SNE."""

from __future__ import annotations

from robollm.train.quality.measure import EmbeddingQuality, PairCosines, embedding_quality
from robollm.train.quality.report import write_quality

__all__ = ["EmbeddingQuality", "PairCosines", "embedding_quality", "write_quality"]
