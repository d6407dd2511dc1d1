"""The Kombo API: an httpx client and its wire formats; every quirk of the client lives in this room."""
