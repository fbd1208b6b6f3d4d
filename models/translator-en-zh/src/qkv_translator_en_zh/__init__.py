"""The model translator-en-zh, for qkv."""
