"""The way of one query: candidates, decision, hold, run, settle."""
