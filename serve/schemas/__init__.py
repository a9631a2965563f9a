"""What clients send and get: strict pydantic models with descriptions and examples for the OpenAPI document.

Requests are validated by these models. Answers are written from arrays (``serve.answers``) and only documented by them;
the tests hold the two together.
"""
