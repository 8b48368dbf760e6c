"""Reads photos from files, tar shards and tables of paths; writes tags and the record of a run, and reads them back."""
