"""Measurements of the agent, each beside the bare transport doing the same work in the same run.

The numbers that count are ratios: a loaded or slow machine moves both sides alike. `python -m bench --help`.
"""
