"""Training: data builders, tokenizers, the loop, evaluation."""
