"""Hooks on a model's modules: which one runs, where a forward pass begins and ends, and which tokens it reads."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters._listening import in_backward
from ..errors import CaptureError
from ..trace import SideName
from ._active import Frame, Session
from ._reading import Ending

IDS: dict[SideName, tuple[str, ...]] = {
    "input": ("input_ids", "src", "input", "inputs", "tokens", "ids", "x"),
    "target": ("decoder_input_ids", "tgt", "target"),
}
MASKS: dict[SideName, str] = {"input": "attention_mask", "target": "decoder_attention_mask"}
READS_OTHER = ("key_value_states", "encoder_hidden_states")
"""Arguments that make an attention module cross-attention."""


@contextmanager
def hooked(session: Session, model: nn.Module) -> Iterator[None]:
    """While it lasts, `session` knows which module of `model` runs, and its recorder which texts are read."""
    hooks = _Hooks(session, model)
    with ExitStack() as undo:
        for path, module in model.named_modules():
            undo.callback(module.register_forward_pre_hook(hooks.enter(path), with_kwargs=True).remove)
            undo.callback(module.register_forward_hook(hooks.leave(path), always_call=True).remove)
        if callable(getattr(model, "generate", None)) and hasattr(model, "generation_config"):
            undo.enter_context(hooks.guarded_generate())
        yield


class _Hooks:
    """What the hooks of one capture share."""

    def __init__(self, session: Session, model: nn.Module) -> None:
        self.session = session
        self.recorder = session.recorder
        self.model = model
        self.generating = False
        self.prompt_read = False
        self.roles = _roles(model)

    def enter(self, path: str) -> Any:
        """The hook before a module runs."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() != self.recorder.thread:
                raise CaptureError(
                    "the model runs in another thread than the one that entered qkv.capture, and what it does there "
                    "cannot be told apart: enter capture in the thread that runs the model"
                )
            if in_backward():
                return
            if not self.session.frames:
                self.recorder.begin(generates=self.generating and self.prompt_read)
            reads_other = any(kwargs.get(name) is not None for name in READS_OTHER)
            self.session.frames.append(Frame(path, reads_other))
            if module in self.roles:
                self._note(module, args, kwargs)

        return hook

    def leave(self, path: str) -> Any:
        """The hook after a module has run, or failed."""

        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            frames = self.session.frames
            if in_backward() or all(frame.path != path for frame in frames):
                return
            while frames.pop().path != path:
                pass
            if not frames:
                self.recorder.end(failed=result is None)
                self.prompt_read = self.prompt_read or self.roles.get(module, "input") != "input"

        return hook

    @contextmanager
    def guarded_generate(self) -> Iterator[None]:
        """Know the prompt from what is written after it, and refuse what reorders the cache."""
        model: Any = self.model
        own = vars(model).get("generate")
        generate = model.generate

        @wraps(generate)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            config = kwargs.get("generation_config") or model.generation_config
            beams = kwargs.get("num_beams", getattr(config, "num_beams", 1)) or 1
            if beams > 1:
                raise CaptureError(
                    f"num_beams: expected 1 while generate() is captured, got {beams}; beam search reorders what the "
                    "model has read. Write greedily or by sampling"
                )
            if kwargs.get("assistant_model") is not None or kwargs.get("prompt_lookup_num_tokens") is not None:
                raise CaptureError(
                    "assistant_model, prompt_lookup_num_tokens: expected none while generate() is captured; they write "
                    "tokens and take them back. Write greedily or by sampling"
                )
            stops = kwargs.get("eos_token_id", getattr(config, "eos_token_id", None))
            stops = stops if isinstance(stops, list | tuple) else [] if stops is None else [stops]
            self.recorder.ending = Ending(frozenset(int(stop) for stop in stops))
            self.generating, self.prompt_read = True, False
            try:
                return generate(*args, **kwargs)
            finally:
                self.generating = False

        model.generate = guarded
        try:
            yield
        finally:
            if own is None:
                del model.generate
            else:
                model.generate = own

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tell the recorder which tokens a module was given."""
        turn = self.recorder.current
        assert turn is not None
        try:
            given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        except TypeError:
            return  # the model will say so itself
        given = {**given, **given.get("kwargs", {})}
        turn.goes_on = turn.goes_on or given.get("encoder_outputs") is not None
        role = self.roles[module]
        for side in ("input", "target") if role is None else (role,):
            names = IDS[side] if role is None else IDS["input"]
            mask = given.get(MASKS[side] if role is None else MASKS["input"])
            ids = next((given[name] for name in names if _is_ids(given.get(name))), None)
            if ids is not None:
                turn.notes.ids.setdefault(side, ids)
            if isinstance(mask, Tensor) and mask.ndim == 2:
                turn.notes.masks.setdefault(side, mask)


def _roles(model: nn.Module) -> dict[nn.Module, SideName | None]:
    """Modules whose arguments name tokens, and of which side: None for the model itself, which may name both.

    Its body counts as itself: that may be called without the head.
    """
    roles: dict[nn.Module, SideName | None] = {model: None}
    if isinstance(body := getattr(model, "base_model", None), nn.Module):
        roles[body] = None
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        parts: tuple[tuple[str, SideName], ...] = (("get_encoder", "input"), ("get_decoder", "target"))
        for getter, side in parts:
            part = getattr(model, getter, lambda: None)()
            if isinstance(part, nn.Module) and part is not model:
                roles[part] = side
    return roles


def _is_ids(value: Any) -> bool:
    integers = (torch.int64, torch.int32, torch.int16, torch.uint8)
    return isinstance(value, Tensor) and value.ndim == 2 and value.dtype in integers
