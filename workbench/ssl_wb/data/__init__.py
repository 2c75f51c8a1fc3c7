"""From clips to batches: reading sources, order, crops, augmentation, captions, statistics, packing."""
