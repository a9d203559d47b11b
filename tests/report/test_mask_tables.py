"""What tables of masks say, beside numbers counted by hand."""

from __future__ import annotations
