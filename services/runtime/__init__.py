"""What every service stands on: configuration, logging, database, server, channels, clocks. No domain in it."""
