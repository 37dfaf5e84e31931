"""Mechanisms that both planes stand on: ranges, timers, transition tables, estimators. Pure."""
