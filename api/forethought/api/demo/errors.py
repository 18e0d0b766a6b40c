"""The demo's exception.

ForethoughtError (forethought.models.errors)
└── DemoError   the server did not start, an answer failed, or an option cannot be used
"""

from __future__ import annotations

from forethought.models.errors import ForethoughtError


class DemoError(ForethoughtError):
    """The demo cannot go on; the message says why."""

    code = "demo_failed"
