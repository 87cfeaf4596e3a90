"""The asset graph, one module a group; thin: find what is new, have it made, describe it."""
