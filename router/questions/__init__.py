"""Seeded generators of verifiable questions, by family and difficulty."""
