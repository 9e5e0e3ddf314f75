"""Getting a bundle out of a DSS: its files, checked, into a directory."""
