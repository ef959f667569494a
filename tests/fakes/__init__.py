"""Loopback servers for the real clients: a fake Hub and a fake Kaggle.

Nothing of a client is replaced: the real `huggingface_hub` and `kaggle` packages send real HTTP to a
server on 127.0.0.1 that answers as the real service does.
"""
