"""Tests mirror the package; each folder says what its tests may touch (see conftest.py)."""
