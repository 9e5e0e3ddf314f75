"""Commands for developers; each one describes itself in its first lines."""
