"""From request to ledger row: providers, strategies, verifiers, routing, gateway, command line."""
