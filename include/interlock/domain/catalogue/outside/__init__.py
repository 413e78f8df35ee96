"""What the catalogue says about systems outside of Interlock: where tickets are kept."""
