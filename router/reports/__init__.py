"""The report for whoever pays: one document, and its renderings as a page, a print and a table."""
