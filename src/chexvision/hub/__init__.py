"""The Hugging Face Hub: references, retries, error translation, tokens, repositories."""
