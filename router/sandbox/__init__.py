"""Where programs that a model wrote are run, cut off from this machine."""
