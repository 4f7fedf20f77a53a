"""Small trainable parts, one set per task, on one frozen encoder."""
