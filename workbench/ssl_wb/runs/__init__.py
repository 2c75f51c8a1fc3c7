"""What a run leaves and needs: its folder, checkpoints, environment record, device and sharding."""
