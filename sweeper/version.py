"""The version, in a file of its own so that the build can read it, and the versions of what decides the numbers."""

from functools import cache

__version__ = "0.1.0"


@cache
def read_versions() -> dict[str, str]:
    """Versions of Python, sweeper and the libraries that decide the numbers, as installed here."""
    import platform

    names = ("sweeper", "torch", "segmentation-models-pytorch", "optuna", "mlflow", "numpy")
    return {"python": platform.python_version(), **{name: read_version(name) for name in names}}


def read_version(name: str) -> str:
    """Return the version of a package as it is installed; sweeper may run from a checkout that is not installed."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        if name != "sweeper":
            raise
        return __version__
