"""Made-up products: a catalogue, their shapes and their print."""
