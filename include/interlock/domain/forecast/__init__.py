"""When a release will be through, from what releases and people took before, and how ready it is. No I/O."""
