"""Reading and writing documents, relation maps and predictions."""
