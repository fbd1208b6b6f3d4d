"""What all our models share as Hugging Face models: how fresh weights are drawn, and when attention's are returned."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from ..nn import LearnedPositions, RMSNorm, Rotary, SinusoidalPositions


class QkvModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A `PreTrainedModel` whose attention is computed by qkv, whatever ``attn_implementation`` is."""

    accepts_loss_kwargs = True  # num_items_in_batch is honoured: accumulated gradients are those of the whole batch

    def _returns_weights(self, asked: bool | None) -> bool:
        """Whether a forward pass returns attention's weights: as it is asked to, or as the configuration says."""
        return bool(self.config.output_attentions if asked is None else asked)

    def _init_weights(self, module: nn.Module) -> None:
        """Linear maps after Glorot and Bengio (2010), embeddings narrow; tables that are computed, anew.

        transformers calls it for what a checkpoint does not hold; there, tables are not computed when they are made.
        """
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.LayerNorm | RMSNorm):
            nn.init.ones_(module.weight)
            if isinstance(module, nn.LayerNorm) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, LearnedPositions):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, SinusoidalPositions | Rotary):
            module.compute()
