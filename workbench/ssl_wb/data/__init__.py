"""Sources of clips, their order, loading, statistics and the synthetic scenes."""
