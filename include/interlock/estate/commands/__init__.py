"""The commands of the embedded stack that show or write something: demo, trains, evidence, past releases."""
