"""Features of photos, extracted once per backbone and cached."""
