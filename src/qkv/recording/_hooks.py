"""Hooks on a model's modules: which one runs, where a forward pass begins and ends, and which tokens it reads."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError
from ..trace import SideName
from ._recorder import Recorder

_INPUT = ("input_ids", "src", "input", "tokens", "ids", "x", "inputs")
_TARGET = ("decoder_input_ids", "tgt", "target")
_INPUT_MASK = ("attention_mask",)
_TARGET_MASK = ("decoder_attention_mask",)
_READS_OTHER = ("key_value_states", "encoder_hidden_states")
"""Arguments of an attention module that make it cross-attention."""


class Watch:
    """The hooks of one capture."""

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        self.model = model
        self.recorder = recorder
        self.generating = 0
        self._prompt_read = False
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._running: list[tuple[nn.Module, bool]] = []
        self._roles = self._find_roles()
        self._signatures = {id(m): inspect.signature(m.forward) for m in self._roles}
        self._handles: list[Any] = []

    @property
    def inside(self) -> bool:
        """The model is running."""
        return bool(self._running)

    def path(self, module: nn.Module | None = None) -> str:
        """The path of a module, or of the innermost one that runs."""
        module = self._running[-1][0] if module is None else module
        return self._paths[id(module)]

    def knows(self, module: nn.Module) -> bool:
        """The module is one of this model's."""
        return id(module) in self._paths

    def reads_other(self) -> bool:
        """The innermost module was given another text to read: it is cross-attention."""
        return self._running[-1][1]

    def attach(self) -> None:
        """Put the hooks in."""
        for module in self.model.modules():
            self._handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def detach(self) -> None:
        """Take the hooks out."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _find_roles(self) -> dict[nn.Module, SideName | None]:
        """Modules whose arguments name tokens; None for the model itself, which may name both sides."""
        roles: dict[nn.Module, SideName | None] = {self.model: None}
        if not getattr(getattr(self.model, "config", None), "is_encoder_decoder", False):
            return roles
        for get, side in (("get_encoder", "input"), ("get_decoder", "target")):
            part = getattr(self.model, get, lambda: None)()
            if isinstance(part, nn.Module) and part is not self.model:
                roles[part] = side  # type: ignore[assignment]
        return roles

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() != self.recorder.thread:
            raise CaptureError(
                "the model runs in another thread than the one that entered qkv.capture, where its attention cannot "
                "be told apart: enter capture in the thread that runs the model."
            )
        if torch._C._current_graph_task_id() != -1:
            return
        if not self._running:
            self.recorder.begin(generates=bool(self.generating) and self._prompt_read)
        self._running.append((module, any(kwargs.get(name) is not None for name in _READS_OTHER)))
        if module in self._roles:
            self._note(module, args, kwargs)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if torch._C._current_graph_task_id() != -1:
            return
        while self._running and self._running.pop()[0] is not module:
            pass
        if not self._running:
            self.recorder.end(failed=result is None)
            if self._roles.get(module, "input") != "input":
                self._prompt_read = True
            elif module is self.model:
                self._prompt_read = True

    def prompt_comes(self) -> None:
        """generate() starts: its first forward pass reads what it was given."""
        self._prompt_read = False

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        turn = self.recorder.current
        if turn is None:
            return
        try:
            given = self._signatures[id(module)].bind_partial(*args, **kwargs).arguments
        except TypeError:
            return  # the model will say so itself
        given = {**given, **given.pop("kwargs", {})}
        role = self._roles[module]
        if given.get("encoder_outputs") is not None:
            turn.goes_on = True
        if role is None:
            two_sided = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
            if two_sided and len(self._roles) > 1:
                return  # its encoder and decoder will say
            self._take("input", given, _INPUT, _INPUT_MASK)
            self._take("target", given, _TARGET, _TARGET_MASK)
        else:
            self._take(role, given, _INPUT, _INPUT_MASK)

    def _take(self, side: SideName, given: dict[str, Any], ids: tuple[str, ...], masks: tuple[str, ...]) -> None:
        turn = self.recorder.current
        assert turn is not None
        for names, found, whole in ((ids, turn.notes.ids, True), (masks, turn.notes.masks, False)):
            for name in names:
                tensor = given.get(name)
                if not isinstance(tensor, Tensor) or tensor.ndim != 2:
                    continue
                if whole and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
                    continue
                found[side] = tensor
                break
