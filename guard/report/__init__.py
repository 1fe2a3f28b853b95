"""What guard says: JSON documents (CONTRACT §3) and plain text. Pure functions of the model."""
