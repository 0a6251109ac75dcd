"""The HTTP face: OpenAI-compatible endpoints over the routing service."""
