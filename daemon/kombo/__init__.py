"""The client of the Kombo API: an HTTP client and its wire formats. All workarounds for its library are in this package."""
