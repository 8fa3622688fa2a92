"""The calls that this side makes: what is called, over which link, until when, and what comes of it."""
