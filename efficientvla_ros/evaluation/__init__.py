"""Closed-loop runs, their statistics, reports and videos."""
