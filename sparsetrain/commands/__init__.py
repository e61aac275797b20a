"""The subcommands of `sparsetrain`, one file each, and the options that several of them share."""
