"""From a trace to what is shown: pure functions that return plain data, shared by terminal, page and notebook."""
