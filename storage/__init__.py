"""What happened: the ledger's tables and the only SQL of the project."""
