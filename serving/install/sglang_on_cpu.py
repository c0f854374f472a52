"""Put into SGLang's environment on a CPU: what it imports though it needs a GPU. Imports nothing of Wattfront.

`sgl_kernel` (no CPU build is published) and IPython become modules whose functions raise: SGLang imports them
always, and calls none to generate text on a CPU without AMX. torchvision's wheel is built for CUDA, and needs
two operators of its library to be known when it is imported; they are declared, and not defined.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

ABSENT = ("sgl_kernel", "IPython", "IPython.display")
OPERATORS = ("nms", "qnms")


class _Absent(types.ModuleType):
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*_: object, **__: object) -> None:
            raise RuntimeError(f"{self.__name__}.{name}: not on a CPU")

        return absent


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    operators: Any = None  # of torchvision: they are known as long as this lives

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=name == "IPython")
        if name == "torchvision" and self.operators is None:
            torch: Any = importlib.import_module("torch")
            self.operators = torch.library.Library("torchvision", "DEF")
            for operator in OPERATORS:
                self.operators.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.insert(0, _Finder())
