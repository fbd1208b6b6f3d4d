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
        """Weights from N(0, 0.02^2), as GPT's and BERT's (Radford et al., 2018): new models all but guess.

        transformers calls it for what a checkpoint does not hold; there, tables are not computed when they are made.
        """
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding | LearnedPositions):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.LayerNorm | RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, SinusoidalPositions | Rotary):
            module.compute()
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
