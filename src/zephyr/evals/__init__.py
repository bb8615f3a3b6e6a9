"""Measuring a model: test splits, and the academic tasks of the Open LLM Leaderboard."""
