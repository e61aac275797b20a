"""The subcommands of `python -m sparsetrain`, one file each."""
