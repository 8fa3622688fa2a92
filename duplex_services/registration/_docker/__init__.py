"""Docker, and what speaks as it does."""
