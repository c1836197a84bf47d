"""The callback on its way to workers that have none of the user's modules: pickled with all that belongs to it."""

from __future__ import annotations

import functools
import os
import pickle
import site
import sys
import sysconfig
import types
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import ProcessingError

__all__ = ['Sent', 'pickled', 'state_of']

#: More than this is a model or a data set, which each worker had better load from a file.
MOST_BYTES = 100_000_000


class Sent(NamedTuple):
    """The pickled callback. notes: what its user has to know, one sentence each."""

    data: bytes
    notes: Tuple[str, ...] = ()


def pickled(callback: Callable[..., Any]) -> Sent:
    """The callback, by value with the user's own modules, so that workers need not have them.

    The user's own are its module and what has been loaded from that one's folder; installed packages go by name, and
    have to be installed on the workers. Raises ProcessingError where it cannot be pickled.
    """
    modules = _own_modules(callback)
    notes: Tuple[str, ...] = ()
    try:
        data = _dumps(callback, modules)
    except Exception as error:
        data = _by_name(callback, modules, error)
        notes = (f'{", ".join(module.__name__ for module in modules)} could not be sent along ({_words(error)}) and '
                 'had to be imported by the workers; what is kept there from call to call was not made anew for each '
                 'block',)
    if len(data) > MOST_BYTES:
        raise ProcessingError(f'the callback is {len(data) / 1e6:.0f} MB when pickled, and {MOST_BYTES / 1e6:.0f} MB '
                              'can be sent; load models and data in its __enter__, from files that all workers see')
    return Sent(data, notes)


def _by_name(callback: Callable[..., Any], modules: List[types.ModuleType], error: Exception) -> bytes:
    if modules:
        try:
            return _dumps(callback, [])
        except Exception:
            pass                           # the first explanation is the better one
    raise ProcessingError(f'the callback cannot be sent to the workers: {_words(error)}; open files, sockets and '
                          'models in its __enter__, which runs there, and not before') from error


def _dumps(callback: Callable[..., Any], modules: List[types.ModuleType]) -> bytes:
    import cloudpickle
    with _by_value(modules):
        data: bytes = cloudpickle.dumps(callback, pickle.HIGHEST_PROTOCOL)
    return data


@contextmanager
def _by_value(modules: List[types.ModuleType]) -> Iterator[None]:
    import cloudpickle
    before = set(cloudpickle.list_registry_pickle_by_value())
    added = [module for module in modules if module.__name__ not in before]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def _own_modules(callback: Any) -> List[types.ModuleType]:
    module = sys.modules.get(_named(callback).__module__ or '')
    path = getattr(module, '__file__', None)
    if module is None or path is None or _is_installed(path):
        return []
    folder = os.path.dirname(os.path.abspath(path)) + os.sep
    # The main script always goes by value.
    return [one for name, one in list(sys.modules.items()) if name not in ('__main__', '__mp_main__')
            and isinstance(one, types.ModuleType) and one.__name__ == name
            and (one is module or _lies_in(getattr(one, '__file__', None), folder))]


def _lies_in(path: Optional[str], folder: str) -> bool:
    return path is not None and os.path.abspath(path).startswith(folder) and not _is_installed(path)


def _is_installed(path: str) -> bool:
    """Whether it belongs to Python, to an installed package, or to this one."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    known = [here, *site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path('stdlib')]
    return any(os.path.abspath(path).startswith(os.path.abspath(one) + os.sep) for one in known)


def _named(callback: Any) -> Any:
    """What bears the name of the module where it was written."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    if isinstance(callback, types.MethodType):
        callback = callback.__self__
    return callback if hasattr(callback, '__qualname__') else type(callback)


def state_of(callback: Any) -> str:
    """What it may carry from call to call, in words; '' for what is not seen to carry anything."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    owner = getattr(callback, '__self__', None) if isinstance(callback, types.MethodType) else callback
    if isinstance(owner, types.FunctionType):
        return 'a function with variables of its own' if owner.__closure__ else ''
    if owner is None or isinstance(owner, (types.BuiltinFunctionType, type, types.ModuleType)):
        return ''
    return f'an object ({type(owner).__name__})'


def _words(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}'[:500]
