"""What is seen from outside: metrics of every process, and the log."""
