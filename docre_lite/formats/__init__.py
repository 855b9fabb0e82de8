"""Every way a document, a map of relations or a prediction comes in or goes out."""
