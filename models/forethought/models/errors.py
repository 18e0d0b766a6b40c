"""The root of Forethought's exceptions, and those of the models layer.

ForethoughtError
├── BundleError            a policy bundle is missing, tampered with or of another version
└── (forethought.router.errors has the rest)

Each error names what it is about (``param``) and what to do (``remedy``). One place,
``forethought.api.errors``, turns it into an HTTP reply; the command line prints it in
one line and exits with status 2.
"""

from __future__ import annotations


class ForethoughtError(Exception):
    """Root of every error that Forethought raises on purpose.

    Args:
        message: What is wrong, in one sentence.
        param: The field, file or setting that it is about.
        remedy: What the reader can do about it.
    """

    code: str = "forethought_error"
    http_status: int = 500
    type: str = "server_error"

    def __init__(
        self, message: str, *, param: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message if remedy is None else f"{message} {remedy}")
        self.message = message
        self.param = param
        self.remedy = remedy


class BundleError(ForethoughtError):
    """A policy bundle is missing, incomplete, tampered with or of another version."""

    code = "bundle_invalid"
