"""The contract in TypeScript: ``python -m qkv.views.typescript > web/src/contract.ts``.

The declarations are read from the source of ``contract.py`` rather than from the classes, because the words beside a
field (its shape, its unit) are half of the contract and exist only there. Nothing but what the contract uses is
translated; an annotation that has no translation is an error, not a guess.
"""

from __future__ import annotations

import ast
import inspect

from . import contract

HEADER = """\
// Generated from src/qkv/views/contract.py by `python -m qkv.views.typescript > web/src/contract.ts`. Do not edit.
"""

_SCALARS = {"float": "number", "int": "number", "str": "string", "bool": "boolean", "None": "null"}


def generate() -> str:
    """Return ``contract.py`` as TypeScript: an interface for every TypedDict, a type for every Literal."""
    module = ast.parse(inspect.getsource(contract))
    parts = [HEADER + _comment(ast.get_docstring(module), indent="")]
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                parts.append(f"export type {name} = {_type(value)};\n")
            case ast.ClassDef():
                parts.append(_interface(node))
    return "\n".join(parts)


def _interface(node: ast.ClassDef) -> str:
    lines = [_comment(ast.get_docstring(node), indent=""), f"export interface {node.name} {{\n"]
    # A string after a field describes it; TypeScript wants the comment before.
    following = [*node.body[1:], None]
    for statement, after in zip(node.body, following, strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        words = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        lines.append(_comment(str(words) if words else None, indent="  "))
        lines.append(f"  {statement.target.id}: {_type(statement.annotation)};\n")
    return "".join([*lines, "}\n"])


def _type(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=None):
            return "null"
        case ast.Name(id=name):
            return _SCALARS.get(name, name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{_type(left)} | {_type(right)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            values = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return " | ".join(f'"{ast.literal_eval(value)}"' for value in values)
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            inner = _type(item)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, item])):
            return f"Record<{_type(key)}, {_type(item)}>"
    raise TypeError(f"the contract's annotation {ast.unparse(node)!r} has no translation into TypeScript; add one here")


def _comment(text: str | None, indent: str) -> str:
    if not text:
        return ""
    lines = inspect.cleandoc(text).splitlines()
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


if __name__ == "__main__":
    print(generate(), end="")
