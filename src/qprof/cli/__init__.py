"""The commands, one file each: parse, call, print. Errors become messages and exit codes in `main` alone."""
