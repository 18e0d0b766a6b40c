"""What is learned: from the log to a better policy, judged before it serves."""
