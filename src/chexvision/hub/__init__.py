"""The Hugging Face Hub's wire: references, retries, accounts, repositories."""
