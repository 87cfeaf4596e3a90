"""The `astrid` command."""
