"""Verification campaigns: many subjects and cases from one file, over the workers of pytest-xdist.

`plan.py` reads the file, `checking.py` verifies one case, `plugin.py` is the session's plugin in every process, and
`campaign.py` starts the session and keeps what comes. docs/campaigns.md describes the file.
"""

from __future__ import annotations
