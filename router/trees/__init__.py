"""Search over trees of thoughts, apart from the model calls that grow and value them."""
