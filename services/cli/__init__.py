"""The `loyalty` command: the local stack (database, services, gateway, mailbox) and what is done with it."""
