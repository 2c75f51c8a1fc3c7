"""What a task is: labelled clips, their splits or folds, and manifests made from original downloads."""
