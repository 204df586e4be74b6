"""The ledger: who is a member, and an append-only points ledger."""
