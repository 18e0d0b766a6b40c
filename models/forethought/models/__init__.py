"""What is predicted, from numbers alone: no I/O but a bundle's files."""

from forethought.models.embedding import Embedder, HashEmbedder, WordLlamaEmbedder
from forethought.models.errors import BundleError, ForethoughtError
from forethought.models.features import (
    FEATURE_VERSION,
    ArtefactFacts,
    FeatureExtractor,
    HistoryFacts,
    RequestFacts,
)

__all__ = [
    "FEATURE_VERSION",
    "ArtefactFacts",
    "BundleError",
    "Embedder",
    "FeatureExtractor",
    "ForethoughtError",
    "HashEmbedder",
    "HistoryFacts",
    "RequestFacts",
    "WordLlamaEmbedder",
]
