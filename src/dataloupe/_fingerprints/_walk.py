"""What the parts of a walk ask of it."""

import abc
from typing import Any


class AbstractWalk(abc.ABC):
    """A walk through an object and all that its code reaches, as functions and classes see it.

    ``attributes`` collects the names of all attributes that functions of the user's own read, of whatever object.
    """

    attributes: set[str]

    @abc.abstractmethod
    def value(self, thing: Any) -> Any:
        """Any object as JSON."""

    @abc.abstractmethod
    def named(self, name: str, thing: Any) -> Any:
        """The value of a name in code; the name stands in the error if it cannot be followed."""

    @abc.abstractmethod
    def see(self, thing: Any) -> Any:
        """A reference to a function, class or module: followed if it is the user's, else by its name."""

    @abc.abstractmethod
    def unfollowed(self, thing: Any, why: str = "") -> dict[str, Any]:
        """An object that cannot be followed: refused at the end, unless a version stands for it."""
