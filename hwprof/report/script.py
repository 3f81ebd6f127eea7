"""What a page and a picture need that is not ours: Vega, bundled, and Jinja."""

from __future__ import annotations

from functools import cache
from typing import Any

from hwprof.errors import BackendUnavailable

EXPORTS = "window.vegaEmbed = vegaEmbed;"


def require_report() -> None:
    """Raises BackendUnavailable where the libraries of the extra `report` are not installed."""
    converter()
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError:
        raise _absent("jinja2") from None


def converter() -> Any:
    """The module `vl_convert`: Vega, Vega-Lite and Vega-Embed with a JavaScript engine of its own.

    Raises:
        BackendUnavailable: it is not installed.
    """
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise _absent("vl-convert-python") from None
    return vl_convert


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`."""
    bundle: str = converter().javascript_bundle(EXPORTS)
    return bundle


def _absent(package: str) -> BackendUnavailable:
    return BackendUnavailable(
        f"reports and plots need {package}, which is not installed; run: pip install 'hwprof[report]'"
    )
