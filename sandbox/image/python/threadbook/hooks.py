"""Patches libraries as they are imported. Every Python of the sandbox starts with this.

So it is small, and imports nothing that isn't there already: a patch is looked
at once its library is wanted, and a program that doesn't want it pays 0.1 ms.
"""

import importlib
import sys

_PATCHES = {
    "matplotlib._mathtext": "threadbook.fonts",
    "matplotlib.axes._axes": "threadbook.given",
    "matplotlib.backends.backend_agg": "threadbook.shaping",
    "matplotlib.font_manager": "threadbook.fonts",
    "pandas.core.config_init": "threadbook.frames",
    "pandas.io.parquet": "threadbook.parquet",
}


class _Finder:
    """Finds the modules of _PATCHES, by asking the finders that come after it."""

    def find_spec(self, name, path=None, target=None):
        if name not in _PATCHES:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader, _PATCHES[name])
                return spec
        return None


class _Loader:
    """Loads a module and has it patched."""

    def __init__(self, loader, patch):
        self._loader, self._patch = loader, patch

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        importlib.import_module(self._patch).patch(module)


sys.meta_path.insert(0, _Finder())
