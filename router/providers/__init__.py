"""Models behind one protocol: sample, stream, count, cap."""
