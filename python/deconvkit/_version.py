"""The installed version; pyproject.toml is its one source."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("deconvkit")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
