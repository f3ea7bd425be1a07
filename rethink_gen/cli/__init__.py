"""The command line: parser, commands, doctor."""
