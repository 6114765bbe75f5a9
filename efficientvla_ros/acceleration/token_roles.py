"""Why a visual token is kept; free of torch, for those who only draw or report tokens."""

from __future__ import annotations

KEY = 0
"""Among the few most relevant ones: always kept, and what diversity is measured against."""

TASK = 1
"""Next in relevance to the instruction."""

DIVERSITY = 2
"""Unlike the key tokens."""

UNRANKED = 3
"""Kept for no reason of its own (random baseline)."""

ROLE_NAMES = ('key', 'task', 'diversity', 'unranked')
"""Names, by the numbers above."""
