"""Tiers: rolling balances, purchases minus returns, and the tier each member holds at every instant."""
