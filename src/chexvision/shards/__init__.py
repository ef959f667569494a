"""Raw images to Parquet shards: schema, split, encode, manifest, card, verify."""
