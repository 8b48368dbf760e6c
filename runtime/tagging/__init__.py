"""`mlzsl infer`: tags photos in a pipeline, and resumes interrupted jobs."""
