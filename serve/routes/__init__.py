"""HTTP routes, one module per noun: a route checks its input, asks one deployment and writes the answer."""
