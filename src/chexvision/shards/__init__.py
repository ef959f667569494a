"""Raw images to Parquet shards: schema, split, build, write, verify, push."""
