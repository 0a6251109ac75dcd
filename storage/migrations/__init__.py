"""Schema changes of the ledger: one numbered file each, run by `storage.engine.migrate`."""
