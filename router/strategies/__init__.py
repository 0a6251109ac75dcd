"""Ways of spending test-time compute on one query."""
