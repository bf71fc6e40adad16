"""From image files to Parquet shards, to token shards, to batches."""
