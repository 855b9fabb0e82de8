"""From raw text to documents: mentions and entities from your own spans, from spaCy or from GLiNER.

`spans` takes character spans of any origin · `spacy_doc` reads a `Doc` of spaCy · `finders` runs a front end over texts
· `texts` reads raw text and writes documents · `component` is a step of a spaCy pipeline · `scoring` compares the
triples of found entities with gold. spaCy and GLiNER are extras, imported only where they are used.
"""
