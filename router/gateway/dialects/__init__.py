"""Other ways to ask for the same: Anthropic's messages and OpenAI's responses, on one engine."""
