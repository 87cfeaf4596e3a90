"""Pictures and scores: what a run made, for people."""
