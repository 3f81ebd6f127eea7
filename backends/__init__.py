"""Backends: the contract, the registry and one module per runtime."""

from hwprof.backends.registry import backend_class, backend_names, load_backend

__all__ = ["backend_class", "backend_names", "load_backend"]
