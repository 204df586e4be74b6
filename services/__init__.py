"""The services of the Loyalty platform, their shared runtime and the `loyalty` command."""
