"""Where tables come from: files, SQL databases and the public sample."""
