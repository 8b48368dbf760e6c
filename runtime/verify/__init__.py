"""`mlzsl verify`: checks an engine against its model file and, on photos, against a reference."""
