"""Steps, records and the graph of notebooks: what is done, what is to be run, and how it is run."""
