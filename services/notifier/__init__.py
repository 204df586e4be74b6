"""Rewards and messages: what follows for a member from the ledger's entries and from changes of tier."""
