"""Agreement on the order of writes: the log on disk, snapshots, and consensus over them."""
