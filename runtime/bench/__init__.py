"""`mlzsl bench`: measures engines and the tagging pipeline, compares them with baselines, and plans for more cores."""
