"""The model translator-en-fr, for qkv."""
