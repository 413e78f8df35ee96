"""What the page Board needs of the ledger and the catalogue, kept between requests so that an answer is quick."""
