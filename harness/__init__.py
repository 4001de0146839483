"""The machinery of metarepro: it knows no suite and no algorithm by name."""
