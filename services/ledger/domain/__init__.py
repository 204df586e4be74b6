"""The ledger's rules, pure: commands in, events out, states rebuilt from events."""
