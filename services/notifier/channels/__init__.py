"""The ways a message reaches a member."""
