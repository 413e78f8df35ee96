"""The processes of the embedded stack: started, watched and stopped."""
