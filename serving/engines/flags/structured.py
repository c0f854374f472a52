"""Settings that have knobs of their own, each of which becomes options of its framework. Pure."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from serving.topology import Strict


class Structured(Strict):
    """Knobs that belong to one setting. None leaves a knob to the engine."""

    # Knob → the value that the engine takes where it is unset, if it is the same in all versions.
    unset_means: ClassVar[Mapping[str, object]] = {}
    # Knobs that change no answer, but for the order of sums in a batch.
    same_numerics: ClassVar[frozenset[str]] = frozenset()

    def canonical(self) -> Self | None:
        """Without knobs that repeat the engine's own default; None where nothing is left."""
        kept = {
            name: value
            for name, value in self
            if value is not None and value != self.unset_means.get(name)
        }
        return type(self)(**kept) if kept else None

    def numeric(self) -> dict[str, Any]:
        """The knobs that may change what is answered."""
        return {
            name: value
            for name, value in self
            if value is not None and name not in self.same_numerics
        }
