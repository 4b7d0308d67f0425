"""Interpret a pickle's opcodes without the power to call anything.

`pickle.Unpickler` imports and calls what a pickle names; restricting it means guarding every way in. Here the opcodes
(as `pickletools` decodes them) only move plain data: a named class or function is a `Symbol`, its call is handed to
the reader's own `reduce`, which may recognize it (a tensor) or leave a `Placeholder`. A checkpoint may well refer to
optimizers and classes that are not installed, and those stay marks; one that refers to things of the standard library
that a checkpoint has no use for (`os.system`, `builtins.eval`) is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .pickle_symbols import SAVE, MalformedPickleError, Placeholder, Symbol, symbol

MAX_DEPTH = 200


@dataclass(eq=False)
class _Mark:
    stack: list[Any]


def interpret(
    data: bytes, *, persistent: Callable[[Any], Any], reduce: Callable[[Symbol, tuple[Any, ...]], Any]
) -> Any:
    """Return the object that the pickle describes.

    `persistent` gets each persistent id; `reduce` the symbol and arguments of each call or construction.
    Raises MalformedPickleError if it is damaged or uses what no checkpoint needs.
    """
    machine = _Machine(persistent, reduce)
    try:
        for opcode, arg, _ in pickletools.genops(data):
            if machine.step(opcode.name, arg):
                return machine.result
    except MalformedPickleError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        raise MalformedPickleError(f"its pickle is damaged ({type(e).__name__}: {str(e)[:100]})") from e
    raise MalformedPickleError("its pickle is damaged (no end)")


class _Machine:
    """Stack, marks and memo of the pickle machine."""

    def __init__(self, persistent: Callable[[Any], Any], reduce: Callable[[Symbol, tuple[Any, ...]], Any]) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.persistent, self.reduce = persistent, reduce
        self.result: Any = None

    def step(self, op: str, arg: Any) -> bool:
        """Perform one opcode; return whether it was the last."""
        if op in _LITERALS:
            self.stack.append(arg)
        elif op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op])
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(arg)] = self.stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(arg)])
        elif op == "STOP":
            self.result = self.stack.pop()
            return True
        elif op not in ("PROTO", "FRAME"):
            handler = getattr(self, f"op_{op.lower()}", None)
            if handler is None:
                raise MalformedPickleError(f"its pickle uses {op}, which no checkpoint needs", SAVE)
            handler(arg)
        return False

    def _marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def op_mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []
        if len(self.marks) > MAX_DEPTH:
            raise MalformedPickleError(f"its pickle nests deeper than {MAX_DEPTH}", SAVE)

    def op_pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def op_pop_mark(self, _: Any) -> None:
        self._marked()

    def op_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    # Containers.

    def op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def op_empty_set(self, _: Any) -> None:
        self.stack.append([])

    def op_tuple(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(tuple(items))

    def _tuple(self, n: int) -> None:
        items = tuple(self.stack[-n:])
        if len(items) != n:
            raise MalformedPickleError("its pickle is damaged (stack)")
        del self.stack[-n:]
        self.stack.append(items)

    def op_tuple1(self, _: Any) -> None:
        self._tuple(1)

    def op_tuple2(self, _: Any) -> None:
        self._tuple(2)

    def op_tuple3(self, _: Any) -> None:
        self._tuple(3)

    def op_list(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(items)

    def op_frozenset(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(tuple(items))

    def op_dict(self, _: Any) -> None:
        items = self._marked()
        self.stack.append({})
        self._set(items)

    def op_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def op_appends(self, _: Any) -> None:
        self._extend(self._marked())

    def op_additems(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.items
        if type(target) is not list:
            raise MalformedPickleError("its pickle is damaged (items appended to a non-list)")
        target.extend(items)

    def op_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def op_setitems(self, _: Any) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            raise MalformedPickleError("its pickle is damaged (odd dict)")
        for key, value in zip(items[::2], items[1::2]):
            if isinstance(target, Placeholder):
                target.items.append((key, value))
            elif type(target) is dict:
                target[_key(key)] = value
            else:
                raise MalformedPickleError("its pickle is damaged (items set on a non-dict)")

    # Names, and what the pickle would have called.

    def op_global(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self.stack.append(symbol(module, name))

    def op_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise MalformedPickleError("its pickle names a class by something that is not text")
        self.stack.append(symbol(module, name))

    def _call(self, function: Any, args: Any) -> None:
        if not isinstance(args, tuple):
            raise MalformedPickleError("its pickle is damaged (arguments)")
        if isinstance(function, Symbol):
            self.stack.append(self.reduce(function, args))
        elif isinstance(function, Placeholder) and not function.made_by.endswith(".getattr"):
            self.stack.append(Placeholder(f"{function.made_by}()"))
        else:
            raise MalformedPickleError("its pickle calls something that is not a class")

    def op_reduce(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self._call(function, args)

    def op_newobj(self, _: Any) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        self._call(cls, args)

    def op_newobj_ex(self, _: Any) -> None:
        _kwargs, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._call(cls, args)

    def op_obj(self, _: Any) -> None:
        cls, *args = self._marked()
        self._call(cls, tuple(args))

    def op_inst(self, arg: str) -> None:
        args = self._marked()
        module, _, name = arg.partition(" ")
        self._call(symbol(module, name), tuple(args))

    def op_build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Placeholder):
            self.stack[-1].state = state
        # On anything else (a state dict's `_metadata`) the state says nothing that is needed here.

    def op_binpersid(self, _: Any) -> None:
        self.stack.append(self.persistent(self.stack.pop()))

    def op_persid(self, arg: str) -> None:
        self.stack.append(self.persistent(arg))


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _key(key: Any) -> Any:
    if isinstance(key, str | int | float | bytes | bool | None | Symbol) or (
        isinstance(key, tuple) and len(key) < 16 and all(isinstance(k, str | int) for k in key)
    ):
        return key
    return f"<{type(key).__name__}>"
