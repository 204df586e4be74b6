"""Which tier a member holds, and why (DESIGN §6). Pure: no I/O, no clock of its own."""
