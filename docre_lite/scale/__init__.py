"""Triples of any number of documents: parts, the processes that work on them, and the files they write."""
